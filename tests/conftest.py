"""Suite-wide settings, and the small data set and experiment that most tests share."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browsers import CHROMIUM, chromium
from tests.postgres import postgres  # noqa: F401  (a fixture)
from tests.processes import SESSION_VARIABLE, kill_leftovers, new_session

if TYPE_CHECKING:
    from playwright.sync_api import Browser

os.environ["HF_HUB_OFFLINE"] = "1"
# Tests run at the same time as the processes that they start. Idle OpenMP threads spin and would slow all of them down.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# If a shell starts the suite in the background, the suite ignores SIGINT, and so would its child processes, to which
# some tests send SIGINT. Child processes inherit an ignored signal, but not a handler.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pocketdit  # noqa: F401  (imported first so that torchvision works with a CPU build of torch)

ROOT = Path(__file__).parent.parent
PRETRAIN = ROOT / "experiments" / "elastic_pretrain.yaml"
# Names of the test files that start processes and take at least half a minute each.
SLOWEST_FILES = {
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
    "test_browser",
    "test_fuzz",
    "test_study",
    "test_evaluate",
}


def pytest_configure(config: pytest.Config) -> None:
    """Set an environment variable that identifies all processes that the suite starts, directly or indirectly."""
    if SESSION_VARIABLE not in os.environ:
        os.environ[SESSION_VARIABLE] = new_session()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the slowest files first so that all pytest-xdist workers finish at about the same time."""
    items.sort(key=lambda item: item.path.stem not in SLOWEST_FILES)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Kill any processes that the suite left running, and fail if there were any."""
    if hasattr(session.config, "workerinput"):
        return  # a pytest-xdist worker; the controller checks for all workers
    leftovers = kill_leftovers(os.environ[SESSION_VARIABLE])
    if leftovers:
        print("\nprocesses that the tests left running (now killed):", *leftovers, sep="\n  ", file=sys.stderr)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a data set of 64 training and 16 validation scenes, and return its folder."""
    from datamodules.scenes.generator import SceneGenerator
    from datamodules.shards.build_generated import build_generated

    folder = tmp_path_factory.mktemp("data") / "scenes"
    build_generated(SceneGenerator(), folder, train=64, validation=16, seed=0, overwrite=False)
    return folder


NewDatabase = Callable[[Path], str]


@pytest.fixture(scope="session")
def new_database(tmp_path_factory: pytest.TempPathFactory) -> NewDatabase:
    """Return a function that creates an empty MLflow database in a folder and returns the URI of the database.

    MLflow takes a second of CPU time to create its tables, so the function copies a database that MLflow created once.
    """
    from pocketdit.tracking.mlflow_run import import_mlflow

    empty = tmp_path_factory.mktemp("tracking") / "mlflow.db"
    import_mlflow()(f"sqlite:///{empty}").search_experiments()

    def create(folder: Path) -> str:
        return f"sqlite:///{shutil.copy(empty, folder / 'mlflow.db')}"

    return create


def tiny_overrides(scenes: Path, folder: Path) -> list[str]:
    """Return overrides that shorten ``elastic_pretrain.yaml`` to a run of a few seconds.

    Args:
        scenes: Folder of the data set.
        folder: Folder for the runs and the MLflow database.
    """
    return [
        f"data.init_args.path={scenes}",
        f"runs={folder / 'runs'}",
        f"tracking.uri=sqlite:///{folder / 'mlflow.db'}",
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


@pytest.fixture
def tiny(scenes: Path, tmp_path: Path, new_database: NewDatabase) -> list[str]:
    """Return overrides that shorten ``elastic_pretrain.yaml`` to a run of a few seconds in ``tmp_path``."""
    new_database(tmp_path)
    return tiny_overrides(scenes, tmp_path)


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """Run Chromium for the tests in one file only, because Playwright's event loop would disturb other tests."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with chromium() as running:
        yield running


Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def command() -> Command:
    """Return a function that runs a PocketDiT command in a separate process, as a user does."""

    def run(
        *arguments: str | Path, timeout: float = 120, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "pocketdit", *map(str, arguments)]
        return subprocess.run(line, capture_output=True, text=True, timeout=timeout, cwd=ROOT, env=env)

    return run
