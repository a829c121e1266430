"""Settings of the whole suite, and a small data set and experiment that most tests use."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.processes import SESSION_VARIABLE, end_leftovers, new_session

os.environ["HF_HUB_OFFLINE"] = "1"
# Tests share two cores with the processes that they start; spinning OpenMP threads would slow all of them down.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A shell starts a suite in the background with SIGINT ignored. Child processes inherit that, and would
# then ignore Ctrl-C, which some tests send. A handler, unlike an ignored signal, is reset to the default in a child.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pocketdit  # noqa: F401  (first, so that torchvision can be imported beside a CPU build of torch)

ROOT = Path(__file__).parent.parent
PRETRAIN = ROOT / "experiments" / "elastic_pretrain.yaml"
# Files of a few tests that start processes and take half a minute or more.
LONGEST_FILES = {
    "test_resume",
    "test_distillation_resume",
    "test_benchmarks_run",
    "test_user_project",
    "test_package",
    "test_step_distill",
    "test_quantize_finetune",
    "test_tiny_decoder",
    "test_strategies",
    "test_server",
    "test_ddp",
}


def pytest_configure(config: pytest.Config) -> None:
    """Mark every process that the suite starts, directly or indirectly, with an environment variable."""
    if SESSION_VARIABLE not in os.environ:
        os.environ[SESSION_VARIABLE] = new_session()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest files first, so that the processes of pytest-xdist end at about the same time."""
    items.sort(key=lambda item: item.path.stem not in LONGEST_FILES)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail if a process that the suite started is still running, and end it."""
    if hasattr(session.config, "workerinput"):
        return  # a worker of pytest-xdist; the process that started it checks for all of them
    leftovers = end_leftovers(os.environ[SESSION_VARIABLE])
    if leftovers:
        print("\nprocesses that the tests left running (ended now):", *leftovers, sep="\n  ", file=sys.stderr)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data set of 64 training and 16 validation scenes."""
    from datamodules.shards.build import build_scenes

    folder = tmp_path_factory.mktemp("data") / "scenes"
    build_scenes(folder, train=64, validation=16, seed=0, overwrite=False)
    return folder


@pytest.fixture
def tiny(scenes: Path, tmp_path: Path) -> list[str]:
    """Return overrides that make ``elastic_pretrain.yaml`` a run of a few seconds in ``tmp_path``."""
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
    """Return a function that runs the command line in a separate process, as a user does."""

    def run(*arguments: str | Path, timeout: float = 120, **more: object) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "pocketdit", *map(str, arguments)]
        return subprocess.run(words, capture_output=True, text=True, timeout=timeout, cwd=ROOT, **more)  # type: ignore[call-overload, no-any-return]

    return run
