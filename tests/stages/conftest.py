"""Fixtures for the distillation tests, which share a tiny teacher, its few-step LoRA, and a pre-trained student."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningModule

from pocketdit.commands.main import main
from tests.conftest import ROOT, NewDatabase

COMMON = [
    "data.init_args.batch_size=4",
    "data.init_args.workers=0",
    "data.init_args.validation_samples=4",
    "training.max_steps=10",
    "training.warmup_steps=2",
    "training.decay=constant",
    "training.log_every=1",
    "training.validate_every=0",
    "training.checkpoint_every=5",
    "training.sample_every=0",
    "sampling.steps=2",
    "sampling.prompts=[a red circle, a blue star]",
]
TEACHER = ["backbone.width=64", "backbone.text_width=64", "backbone.head_dim=16", "backbone.text_kv_heads=2",
           "backbone.levels.0.depth=2", "backbone.levels.0.attention.kv_heads=2"]  # fmt: skip
STUDENT = ["backbone.width=64", "backbone.widths=[0.5, 1.0]", "backbone.text_width=64",
           "backbone.levels.1.depth=1", "backbone.levels.1.long_skips=false"]  # fmt: skip
LORA = ["stage.init_args.rank=4", "stage.init_args.alpha=8"]


def locations(scenes: Path, folder: Path) -> list[str]:
    """Return overrides for the paths of the data, the runs, and the tracking database."""
    database = folder / "mlflow.db"
    return [f"data.init_args.path={scenes}", f"runs={folder / 'runs'}", f"tracking.uri=sqlite:///{database}"]


def train(name: str, *overrides: str) -> None:
    assert main(["run", str(ROOT / "experiments" / f"{name}.yaml"), *overrides]) == 0


def enable_backward(stage: LightningModule) -> None:
    """Allow a stage to compute gradients without a trainer."""
    stage.manual_backward = torch.Tensor.backward  # type: ignore[method-assign, assignment]  # replaced on purpose


@pytest.fixture(scope="session")
def family(scenes: Path, tmp_path_factory: pytest.TempPathFactory, new_database: NewDatabase) -> Path:
    """Return a folder with a subfolder ``runs`` that contains teacher/t, teacher_few_step/f, and elastic_pretrain/p."""
    folder = tmp_path_factory.mktemp("family")
    new_database(folder)
    paths = locations(scenes, folder)
    few = "training.max_steps=5"  # long enough for one update of the few-step teacher's LoRA, in the fifth step
    train("teacher", *paths, *COMMON, *TEACHER, few, "--name", "t")
    train("teacher_few_step", *paths, *COMMON, *TEACHER, *LORA, few, "--name", "f")
    train("elastic_pretrain", *paths, *COMMON, *STUDENT, few, "--name", "p")
    return folder


@pytest.fixture
def knowledge_overrides(scenes: Path, family: Path) -> list[str]:
    """Return overrides that shorten ``knowledge_distill.yaml`` to a run of a few seconds."""
    return [*locations(scenes, family), *COMMON, *STUDENT]


@pytest.fixture
def step_overrides(scenes: Path, family: Path) -> list[str]:
    """Return overrides that shorten ``step_distill.yaml`` to a run of a few seconds from the pre-trained student."""
    return [*locations(scenes, family), *COMMON, *STUDENT, *LORA, "parents.start=elastic_pretrain"]
