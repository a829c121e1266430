"""A user's project folder, and commands that run in it."""

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
Program = Callable[..., str]
DRIVER = """
import json, sys
from pocketdit.commands.main import main
for arguments in json.loads(sys.argv[1]):
    status = main(arguments)
    if status:
        sys.exit(status)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the user's module and YAML files, and with packages that have the same names as this project's."""
    shutil.copy(HERE / "project.py", tmp_path / "my_project.py")
    shutil.copy(HERE / "run.yaml", tmp_path)
    shutil.copy(HERE / "score.yaml", tmp_path)
    (tmp_path / "pocketdit.toml").write_text('[trust]\nmodules = ["my_project"]\n')
    (tmp_path / "colors.txt").write_text("a red image\na blue image\n")
    for name in ("evaluation", "datamodules", "sweeps"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('the package of another project')\n")
    return tmp_path


@pytest.fixture
def program(project: Path) -> Program:
    """Return a function that runs commands one after the other in the project folder and returns what they print.

    They share a process, whose path starts with the folder as under ``python -m``, because imports take seconds. It
    fails if the status of a command is not 0.
    """

    def run(*commands: str, **options: object) -> str:
        arguments = json.dumps([shlex.split(command) for command in commands])
        command = [sys.executable, "-c", DRIVER, arguments]
        done = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=250, **options)  # type: ignore[call-overload]
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run
