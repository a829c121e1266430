"""Tests for the single-GPU experiments: the estimated memory, and all three stages with tiny models."""

from pathlib import Path

import pytest
import torch

from pocketdit.artifacts.network import load_network
from pocketdit.artifacts.run_folder import find
from pocketdit.commands.main import main
from pocketdit.config.experiment import Experiment
from pocketdit.config.importing import import_class
from pocketdit.config.load import load
from pocketdit.data_contract import DataDescription
from pocketdit.running.cost_estimate import META, cluster_of
from pocketdit.stages.frozen_cost import without_stored
from pocketdit.tracking.journal import read_metrics
from pocketdit.training.step_count import count_step
from tests.conftest import ROOT, NewDatabase
from tests.stages.conftest import COMMON, LORA, STUDENT, locations, train
from tests.teachers.tiny_pipelines import FAMILIES, save

FOLDER = ROOT / "experiments" / "single_gpu"
ENCODED = DataDescription(
    stored_autoencoder={"class": "x"},
    stored_text_encoders=({"class": "x"},),
    stored_teacher_text_encoders=({"class": "x"},),
    has_images=False,
)
KV_HEADS = [f"backbone.levels.{i}.attention.kv_heads=" for i in range(3)]
LARGE = ["backbone.width=1280", "backbone.text_width=1280", "backbone.text_kv_heads=5", "backbone.levels.0.depth=6",
         "backbone.levels.1.depth=7", "backbone.levels.2.depth=6", *(f"{key}5" for key in KV_HEADS)]  # fmt: skip
SAVING = {
    "single_gpu_pretrain": ["data.init_args.batch_size=16", "training.accumulate=16"],
    "single_gpu_knowledge_distill": ["stage.init_args.teacher.init_args.float8=true"],
    "single_gpu_step_distill": [],
}  # the changes for 0.4 B that the headers of the files describe


@pytest.mark.slow
@pytest.mark.parametrize("large", [False, True], ids=["0.2 B", "0.4 B"])
@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_stage_on_encoded_data_fits_into_24_gigabytes(path: Path, large: bool) -> None:
    experiment = load(path, [*LARGE, *SAVING[path.stem]] if large else [], Experiment).config
    cost = without_stored(import_class(experiment.stage.class_path).cost(experiment), ENCODED)
    memory = count_step(cost, META, bf16=True).memory(cluster_of(experiment.training))
    assert ("teacher" in memory) == ("teacher" in experiment.stage.init_args)
    # The remaining memory is for the CUDA context and for fragmentation.
    assert sum(memory.values()) < 0.93 * 24e9


@pytest.mark.slow
def test_all_stages_run_on_encoded_data(scenes: Path, tmp_path: Path, new_database: NewDatabase) -> None:
    """The tiny models have the same classes as in the experiments, except for the text encoders of the student."""
    new_database(tmp_path)
    save(FAMILIES["z_image"], tmp_path / "base")
    save(FAMILIES["z_image"], tmp_path / "turbo", seed=1)
    words = "{class_path: pocketdit.encoders.hashed_text.WordEncoder, init_args: {width: 32, max_tokens: 16}}"
    tiny = [
        *COMMON, *STUDENT, f"autoencoder.init_args.repository={tmp_path / 'base'}", f"text_encoders=[{words}]",
        "backbone.text_inputs=[32]", "backbone.head_dim=16", "backbone.text_kv_heads=2", "backbone.levels.0.depth=1",
        "backbone.levels.2.depth=1", *(f"{key}2" for key in KV_HEADS), "backbone.levels.0.attention.blocks=4",
        "backbone.levels.2.attention.blocks=4", "data.init_args.base_size=64", "training.accelerator=cpu",
        "training.accumulate=1", "training.max_steps=5", "sampling.size=[64,64]",
    ]  # fmt: skip
    teacher = [f"stage.init_args.teacher.init_args.repository={tmp_path / 'base'}"]
    few_step = [*teacher, f"stage.init_args.teacher.init_args.few_step={tmp_path / 'turbo'}"]
    stages: tuple[tuple[str, list[str], list[str] | None, str], ...] = (
        ("single_gpu_pretrain", [], [], "train/loss/width_1"),
        ("single_gpu_knowledge_distill", teacher, ["--teacher"], "train/feature/width_1"),
        ("single_gpu_step_distill", [*few_step, *LORA], None, "train/loss/feature"),
    )
    encoded = tmp_path
    for name, more, options, logged in stages:
        if options is not None:
            encoded = tmp_path / f"encoded_{name}"
            file = str(FOLDER / f"{name}.yaml")
            assert main(["data", "encode", file, str(scenes), str(encoded), *tiny, *more, *options]) == 0
        train(f"single_gpu/{name}", *locations(encoded, tmp_path), *tiny, *more, "--name", "tiny")
        run = find(tmp_path / "runs", f"{name}/tiny")
        values = read_metrics(run.metrics)
        assert logged in values
        network = load_network(run)
        assert all(weight.isfinite().all() for weight in network.parameters())
    assert torch.is_grad_enabled()
