"""A user's project folder, and commands that run in it."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
Program = Callable[..., str]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the user's module and YAMLs, and with packages that have the same names as this project's."""
    shutil.copy(HERE / "project.py", tmp_path / "my_project.py")
    shutil.copy(HERE / "run.yaml", tmp_path)
    shutil.copy(HERE / "score.yaml", tmp_path)
    (tmp_path / "colors.txt").write_text("a red image\na blue image\n")
    for name in ("evaluation", "datamodules", "sweeps"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('the package of another project')\n")
    return tmp_path


@pytest.fixture
def program(project: Path) -> Program:
    """Run ``python -m pocketdit`` in the project folder and return what it prints; fail if its status is not 0."""

    def run(*arguments: str, **options: object) -> str:
        command = [sys.executable, "-m", "pocketdit", *arguments]
        done = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=200, **options)  # type: ignore[call-overload]
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run
