from pathlib import Path

import pytest

from pocketdit.tracking.mlflow_run import MlflowRun
from pocketdit.tracking.target import open_target


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URI of one real sqlite store for all tests: making its tables takes seconds."""
    folder = tmp_path_factory.mktemp("store")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    MlflowRun(folder, open_target(folder, uri, "made by the fixture", "run"))
    return uri


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "pretrain" / "first"
    folder.mkdir(parents=True)
    return folder
