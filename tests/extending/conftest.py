"""Fixtures that provide a user's project folder and a function that runs commands in it."""

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
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


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the user's module and YAML files, and with packages that have the same names as PocketDiT's."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copy(HERE / "project.py", folder / "my_project.py")
    shutil.copy(HERE / "run.yaml", folder)
    shutil.copy(HERE / "score.yaml", folder)
    (folder / "pocketdit.toml").write_text('[trust]\nmodules = ["my_project"]\n')
    (folder / "colors.txt").write_text("a red image\na blue image\n")
    for name in ("evaluation", "datamodules", "sweeps"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text("raise ImportError('the package of another project')\n")
    return folder


@pytest.fixture(scope="module")
def program(project: Path) -> Program:
    """Return a function that runs commands in sequence in the project folder and returns their output.

    Imports take seconds, so the commands share one process. As with ``python -m``, modules in the project folder take
    precedence. The function fails if a command exits with a nonzero status.
    """

    def run(*commands: str, env: Mapping[str, str] | None = None) -> str:
        arguments = json.dumps([shlex.split(command) for command in commands])
        line = [sys.executable, "-c", DRIVER, arguments]
        process = subprocess.run(line, cwd=project, capture_output=True, text=True, timeout=250, env=env)
        assert process.returncode == 0, process.stdout + process.stderr
        return process.stdout + process.stderr

    return run
