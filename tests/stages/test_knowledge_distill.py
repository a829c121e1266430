"""Tests for knowledge distillation: the loss, the trained weights, and the recorded parents."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F

from pocketdit.artifacts.network import load_network
from pocketdit.artifacts.run_folder import find, point_latest_at
from pocketdit.backbones.dit import ElasticDiT
from pocketdit.commands.main import main
from pocketdit.config.experiment import Experiment
from pocketdit.config.load import load
from pocketdit.encoders.conditioning import encode_text
from pocketdit.encoders.contract import TextTokens
from pocketdit.losses.distillation import task_weight
from pocketdit.running.assemble import build_encoders, build_stage
from pocketdit.stages.knowledge_distill import KnowledgeDistill
from pocketdit.stages.teaching import any_visible
from pocketdit.teachers.run import RunTeacher
from pocketdit.tracking.journal import read_metrics
from tests.conftest import ROOT
from tests.stages.conftest import train

FILE = ROOT / "experiments" / "knowledge_distill.yaml"


def create_stage(overrides: list[str], *more: str) -> KnowledgeDistill:
    """Build the stage without a trainer."""
    experiment: Experiment = load(FILE, [*overrides, *more], Experiment).config
    stage = build_stage(experiment, build_encoders(experiment))
    assert isinstance(stage, KnowledgeDistill)
    return stage


def run_teacher(stage: KnowledgeDistill) -> RunTeacher:
    assert isinstance(stage.teacher, RunTeacher)
    return stage.teacher


def batch() -> dict[str, Any]:
    images = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return {"images": images, "captions": ["a red circle", "a blue star", "two green stars", "a pink cross"]}


def test_training_starts_from_the_weights_of_the_parent(knowledge_overrides: list[str], family: Path) -> None:
    parent = load_network(find(family / "runs", "elastic_pretrain/p")).state_dict()
    for name, value in create_stage(knowledge_overrides).backbone.state_dict().items():
        assert torch.equal(value, parent[name]), name


@pytest.mark.parametrize("scaling", ["density", "cdf", "sum"])
@pytest.mark.parametrize("scale_features", [False, True])
def test_the_loss_is_equation_8(
    knowledge_overrides: list[str], scaling: Literal["density", "cdf", "sum"], scale_features: bool
) -> None:
    """Compute the expected loss term by term from the teacher's network."""
    overrides = [f"stage.init_args.scaling={scaling}", f"stage.init_args.scale_features={scale_features}",
             "stage.init_args.output_weight=2", "stage.init_args.feature_weight=0.5",
             "stage.init_args.teacher_guidance=3", "stage.init_args.drop_text=0"]  # fmt: skip
    stage = create_stage(knowledge_overrides, *overrides)
    noisy = stage.prepare(batch(), 0)
    loss, _, logged = stage.loss(noisy, 0.5)

    teacher = run_teacher(stage)
    text = encode_text(teacher.text_encoders, batch()["captions"])
    empty = encode_text(teacher.text_encoders, [""] * 4)
    with torch.no_grad():
        with_text, features = teacher.network.forward_with_features(noisy.x_t, noisy.time, text)
        without = teacher.network(noisy.x_t, noisy.time, empty)
    target = without + 3 * (with_text - without)
    assert isinstance(stage.backbone, ElasticDiT)
    velocity, own = stage.backbone.forward_with_features(noisy.x_t, noisy.time, noisy.text, width=0.5)
    task = (velocity - noisy.target).square().mean((1, 2, 3))
    output = (velocity - target).square().mean((1, 2, 3))
    assert stage.projectors is not None
    projected = stage.projectors.for_hidden_size(32)(own)
    feature = (projected - F.layer_norm(features, features.shape[-1:])).square().mean((1, 2))
    teaching = output + (0.5 * feature if scale_features else 0)
    if scaling == "sum":
        expected = (task + 2 * teaching).mean()
    else:
        share = task_weight(noisy.time, math.log(3.0), 1.5, scaling)
        expected = (share * task + 2 * (1 - share) * task.mean() / teaching.mean() * teaching).mean()
    expected = expected + (0 if scale_features else 0.5 * feature.mean())
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(logged["output/width_0.5"], output.mean(), rtol=1e-4, atol=1e-5)


def test_samples_without_text_use_the_unconditional_teacher() -> None:
    def tokens(*rows: list[int]) -> TextTokens:
        return TextTokens(torch.zeros(len(rows), 2, 3), torch.tensor(rows) > 0)

    text = [tokens([1, 1], [0, 0], [0, 0]), tokens([1, 0], [1, 1], [0, 0])]
    assert any_visible(text).tolist() == [True, True, False]


def test_a_run_trains_backbone_and_projectors_but_not_the_teacher(knowledge_overrides: list[str], family: Path) -> None:
    train("knowledge_distill", *knowledge_overrides, "--name", "run")
    folder = find(family / "runs", "knowledge_distill/run")
    state = torch.load(folder.checkpoint, weights_only=True)["state_dict"]
    assert {name.split(".")[0] for name in state} == {"backbone", "ema", "projectors"}
    before = create_stage(knowledge_overrides)
    assert before.projectors is not None
    for width in ("32", "64"):
        name = f"{width}.1.weight"
        assert not torch.equal(state[f"projectors.{name}"], before.projectors.state_dict()[name])
    assert not torch.equal(state["backbone.embed.weight"], before.backbone.get_parameter("embed.weight"))
    assert not any(p.requires_grad for p in run_teacher(before).network.parameters())
    recorded = read_metrics(folder.metrics)
    assert {"train/output/width_1", "train/feature/width_1", "train/output/width_0.5"} <= set(recorded)


def test_latents_of_another_autoencoder_are_refused(
    knowledge_overrides: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    learned = "autoencoder={class_path: pocketdit.encoders.learned.LearnedAutoencoder, init_args: {}}"
    assert main(["run", str(FILE), *knowledge_overrides, learned, "--name", "refused"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "autoencoder does not match the teacher, which was trained on the latents of pocketdit.encoders.dct" in line


def test_the_few_step_teacher_is_not_loaded(knowledge_overrides: list[str]) -> None:
    few_step = "stage.init_args.teacher.init_args.few_step=teacher_few_step/f"
    assert not run_teacher(create_stage(knowledge_overrides, few_step)).has_few_step


def test_without_the_feature_loss_there_are_no_projectors(knowledge_overrides: list[str]) -> None:
    assert create_stage(knowledge_overrides, "stage.init_args.feature_weight=0").projectors is None


def test_parents_are_recorded_by_full_name(knowledge_overrides: list[str], family: Path) -> None:
    """The configuration names only an experiment, so the run records which run of that experiment was used."""
    train("knowledge_distill", *knowledge_overrides, "training.max_steps=1", "--name", "lineage")
    folder = find(family / "runs", "knowledge_distill/lineage")
    config: Experiment = load(folder.config, [], Experiment).config
    assert config.parents == {"start": "elastic_pretrain/p", "teacher": "teacher/t"}
    assert config.stage.init_args["teacher"].init_args["run"] == "teacher/t"
    lines = folder.metrics.read_text()
    assert '"key": "parent.start", "value": "elastic_pretrain/p"' in lines
    assert '"key": "parent.teacher.weights_sha256"' in lines


def test_a_resumed_run_keeps_its_parents(knowledge_overrides: list[str], family: Path) -> None:
    overrides = [*knowledge_overrides, "training.max_steps=2"]
    train("knowledge_distill", *overrides, "--name", "again")
    train("elastic_pretrain", *[w for w in overrides if "parents" not in w], "--name", "newer")
    assert find(family / "runs", "elastic_pretrain").name == "elastic_pretrain/newer"
    more = [*knowledge_overrides, "training.max_steps=4", "--resume", "knowledge_distill/again"]
    train("knowledge_distill", *more)
    point_latest_at(find(family / "runs", "elastic_pretrain/p"))
    folder = find(family / "runs", "knowledge_distill/again")
    assert load(folder.config, [], Experiment).config.parents["start"] == "elastic_pretrain/p"
    assert main(["run", str(FILE), *more, "training.max_steps=5", "parents.start=elastic_pretrain/newer"]) == 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("parents.start=elastic_pretrian", "did you mean elastic_pretrain"),
        ("parents.teacher=nothing", "parents.teacher: no run named nothing"),
        ("backbone.text_width=32", "backbone.text_width: must be 64 as in parents.start (elastic_pretrain/p), not 32"),
        ("parents.start=teacher_few_step", "is a few-step model"),
        ("stage.init_args.teacher.init_args.run=teacher_few_step", "is a few-step model; set few_step to this run"),
        ("autoencoder.init_args.scale=2.5", "autoencoder does not match the teacher, which was trained on the latents"),
        ("text_encoders.0.init_args.max_tokens=40", "text_encoders must have the same settings as in parents.start"),
        ("stage.init_args.scaling=desnity", "did you mean 'density'"),
    ],
)
def test_wrong_parents_are_reported_in_one_line(
    knowledge_overrides: list[str], override: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(FILE), *knowledge_overrides, override]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert error.count("\n") == 1


def test_a_teacher_with_another_patch_size_is_rejected(knowledge_overrides: list[str]) -> None:
    from pocketdit.errors import ConfigError
    from pocketdit.stages.projectors import build_projectors

    stage = create_stage(knowledge_overrides)
    assert isinstance(stage.backbone, ElasticDiT)
    with pytest.raises(ConfigError, match="patch_size"):
        build_projectors(replace(stage.backbone.spec, patch_size=4), stage.teacher)
