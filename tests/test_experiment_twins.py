"""Tests that the cost of each paper-scale experiment can be estimated, and that its tiny twin trains for one step.

A twin uses the same classes and data loader, but its published models are replaced by checkpoints of the same
architectures with tiny layers and random weights. Twins train on images and on encoded data. The tiny decoder has no
twin, because the weights of its perceptual distance must be downloaded; its stage is tested in ``tests/stages``.
"""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import pocketdit
from pocketdit.artifacts.network import load_network
from pocketdit.commands.main import main
from pocketdit.config.experiment import Experiment, kind_of
from pocketdit.config.importing import import_class
from pocketdit.config.load import load
from pocketdit.tracking.journal import read_metrics
from pocketdit.training.cost import StageCost
from tests.conftest import ROOT, NewDatabase
from tests.encoders.test_pretrained_text import save_clip, save_gemma
from tests.encoders.test_vae import write_checkpoints
from tests.teachers.test_qwen_image import tiny_qwen_image  # noqa: F401  (the fixture "folder")
from tests.teachers.test_qwen_image_lora import lightning

PAPER = ROOT / "experiments" / "paper"
FILES = sorted(set(PAPER.glob("*.yaml")) - {PAPER / "recipe.yaml"})
ON_IMAGENET = ["ladder_unet", "ladder_a", "ladder_b", "ladder_c", "ladder_d", "standalone_full", "elastic_imagenet"]
CHAIN = ["elastic_256", "elastic_1024", "knowledge_distill_1024", "step_distill_1024", "quantize_finetune_1024"]
SMALL = [
    "data.init_args.base_size=64", "data.init_args.batch_size=2", "data.init_args.workers=0",
    "data.init_args.validation_samples=2", "training.devices=1", "training.nodes=1", "training.strategy=auto",
    "training.accelerator=cpu", "training.precision=32-true", "training.max_steps=1", "training.warmup_steps=0",
    "training.log_every=1", "training.sample_every=0", "sampling.size=[64, 64]", "sampling.prompts=[red]",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_experiment_is_planned(path: Path) -> None:
    experiment = load(path, [], kind_of(path)).config
    cost: StageCost | None = import_class(experiment.stage.class_path).cost(experiment)
    assert cost is not None
    assert cost.batch == experiment.data.init_args["batch_size"]
    assert sum(cost.memory.values()) > 0
    if "1024" in path.stem:
        assert cost.image_size == 1024


@pytest.fixture(scope="module")
def models(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny versions of the published autoencoders and text encoders, and a LoRA for Qwen-Image."""
    models = tmp_path_factory.mktemp("models")
    write_checkpoints(models)
    for name, save in (("clip", save_clip), ("gemma", save_gemma)):
        (models / name).mkdir()
        save(models / name)
    save_file(lightning(folder), models / "lightning.safetensors")
    return models


def twin(name: str, models: Path, teacher: Path, home: Path) -> list[str]:
    """Return the overrides that turn an experiment into its tiny twin."""
    experiment = load(PAPER / f"{name}.yaml", [], Experiment).config
    kind = experiment.autoencoder.init_args["kind"]
    overrides = [
        *SMALL,
        f"runs={home / 'runs'}",
        f"tracking.uri=sqlite:///{home / 'mlflow.db'}",
        f"autoencoder.init_args.repository={models / kind}",
        "autoencoder.init_args.dtype=float32",
        f"text_encoders.0.init_args={{repository: {models / 'clip'}, max_tokens: 10}}",
        f"backbone.text_inputs={[16] * len(experiment.text_encoders)}",
        "backbone.text_width=16",
    ]
    if len(experiment.text_encoders) == 2:
        overrides.append(f"text_encoders.1.init_args={{repository: {models / 'gemma'}, max_tokens: 16}}")
    if name == "ladder_unet":
        overrides += ["backbone.channels=[32, 32, 32]", "backbone.transformer_layers=[1, 1, 1]", "backbone.head_dim=16"]
    else:
        depths = [f"backbone.levels.{level}.depth=2" for level in range(len(experiment.dit.levels))]
        overrides += ["backbone.width=256", "backbone.head_dim=4", *depths]
    if "teacher" in experiment.stage.init_args:
        lora = {"lora": str(models / "lightning.safetensors")} if name == "step_distill_1024" else {}
        arguments = json.dumps({"repository": str(teacher), "dtype": "float32", **lora})
        overrides.append(f"stage.init_args.teacher.init_args={arguments}")
    if name == "step_distill_1024":
        overrides += ["training.accumulate=1", "stage.init_args.rank=2", "stage.init_args.student_every=1"]
    if name == "quantize_finetune_1024":
        overrides += ["stage.init_args.calibration_batches=1", "stage.init_args.weight_threshold=64"]
    return overrides


def take_a_step(name: str, overrides: list[str]) -> None:
    """Train a twin for one step, and check its losses and weights."""
    run = pocketdit.train(PAPER / f"{name}.yaml", overrides)
    losses = {key: values for key, values in read_metrics(run.folder.metrics).items() if "loss" in key}
    assert losses
    assert all(torch.tensor(values).isfinite().all() for values in losses.values())
    load_network(run.folder)


@pytest.mark.slow
@pytest.mark.parametrize("data", ["images", "encoded"])
@pytest.mark.parametrize("names", [*([name] for name in ON_IMAGENET), CHAIN], ids=lambda names: names[0])
def test_tiny_twins_take_a_step(
    names: list[str], data: str, models: Path, folder: Path, scenes: Path, tmp_path: Path, new_database: NewDatabase
) -> None:
    new_database(tmp_path)
    source = scenes
    if data == "encoded":
        source = tmp_path / "encoded"
        file = str(PAPER / f"{names[0]}.yaml")
        assert main(["data", "encode", file, str(scenes), str(source), *twin(names[0], models, folder, tmp_path)]) == 0
    for name in names:
        take_a_step(name, [*twin(name, models, folder, tmp_path), f"data.init_args.path={source}"])
