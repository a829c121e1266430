"""Small drawn data and a small experiment that every stage's tests train for a few steps."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
# Tests share two cores with their own worker processes: spinning threads would slow them many times.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pocketdit  # noqa: F401  (first, so that torchvision is importable beside a CPU torch)

ROOT = Path(__file__).parent.parent
PRETRAIN = ROOT / "experiments" / "elastic_pretrain.yaml"


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 training and 16 validation scenes as shards."""
    from datamodules.shards.build import build_scenes

    folder = tmp_path_factory.mktemp("data") / "scenes"
    build_scenes(folder, train=64, validation=16, seed=0, overwrite=False)
    return folder


@pytest.fixture
def tiny(scenes: Path, tmp_path: Path) -> list[str]:
    """Overrides that make ``elastic_pretrain.yaml`` a run of seconds in ``tmp_path``."""
    return [
        f"data.init_args.path={scenes}",
        f"runs={tmp_path / 'runs'}",
        f"tracking.uri=sqlite:///{tmp_path / 'mlflow.db'}",
        "data.init_args.batch_size=4",
        "data.init_args.workers=0",
        "data.init_args.validation_samples=4",
        "backbone.width=128",
        "backbone.widths=[0.5, 1.0]",
        "backbone.text_width=64",
        "backbone.levels.1.depth=1",
        "backbone.levels.1.long_skips=false",
        "training.max_steps=6",
        "training.warmup_steps=2",
        "training.decay=constant",
        "training.log_every=1",
        "training.validate_every=0",
        "training.checkpoint_every=2",
        "training.sample_every=0",
        "sampling.steps=2",
        "sampling.prompts=[a red circle, a blue star]",
    ]


Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def command() -> Command:
    """Run the command line in a process of its own, as a user does."""

    def run(*arguments: str | Path, timeout: float = 120, **more: object) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "pocketdit", *map(str, arguments)]
        return subprocess.run(words, capture_output=True, text=True, timeout=timeout, cwd=ROOT, **more)  # type: ignore[call-overload, no-any-return]

    return run
