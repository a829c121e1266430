"""Tests for ``lightning init``, including a test with PocketDiT installed from a wheel."""

import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from pocketdit.commands.init import shipped_files
from pocketdit.commands.main import main
from tests.conftest import ROOT

FILES = {
    path.relative_to(ROOT).as_posix()
    for name in ("experiments", "sweeps")
    for pattern in ("*.yaml", "cluster/*")
    for path in (ROOT / name).rglob(pattern)
}


def test_init_writes_all_experiments_and_sweeps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", str(tmp_path / "my demo")]) == 0
    written = {path.relative_to(tmp_path / "my demo").as_posix() for path in (tmp_path / "my demo").rglob("*.*")}
    assert written == FILES | {"pocketdit.toml", ".gitignore"}
    assert f"cd '{tmp_path}/my demo'" in capsys.readouterr().out


def test_init_does_not_change_existing_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pocketdit.toml").write_text("# mine\n")
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "teacher.yaml").write_text("mine: 1\n")
    assert main(["init"]) == 0
    assert "files that were not changed (2): pocketdit.toml, experiments/teacher.yaml" in capsys.readouterr().out
    assert (tmp_path / "pocketdit.toml").read_text() == "# mine\n"
    assert (tmp_path / "experiments" / "teacher.yaml").read_text() == "mine: 1\n"
    assert (tmp_path / "experiments" / "elastic_pretrain.yaml").is_file()


def test_init_in_a_file_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main(["init", str(tmp_path / "file")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_wheel_works_without_the_repository(tmp_path: Path) -> None:
    """The files in the wheel suffice to create a project and to estimate the cost of the default run."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=100)
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    # Imports take seconds, so commands that run in the same folder share a process.
    program = (
        f"import json, sys; sys.path.insert(0, {str(site)!r}); from pocketdit.commands.main import main\n"
        "sys.exit(any(main(arguments) for arguments in json.loads(sys.argv[1])))"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def lightning(*commands: str, cwd: Path) -> str:
        command = [sys.executable, "-c", program, json.dumps([line.split() for line in commands])]
        done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stderr
        return done.stdout

    lightning("init demo", cwd=tmp_path)
    assert {name for name in FILES if (tmp_path / "demo" / name).is_file()} == FILES
    output = lightning(
        "data build scenes data/scenes --train 20 --validation 4",
        "run experiments/elastic_pretrain.yaml --plan",
        cwd=tmp_path / "demo",
    )
    assert "elastic_pretrain: 3000 steps" in output


def test_shipped_files_are_those_of_the_repository() -> None:
    assert set(shipped_files()) == FILES


def test_all_mentioned_extras_exist() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    files = [*(ROOT / "platform").rglob("*.py"), *(ROOT / "evaluation").rglob("*.py"), *(ROOT / "sweeps").rglob("*.py")]
    files += [ROOT / "README.md", ROOT / "pyproject.toml", *(ROOT / "docs").glob("*.md")]
    mentioned = {
        extra
        for path in files
        for extras in re.findall(r"pocketdit\[([a-z, ]+)\]", path.read_text())
        for extra in re.split(r", *", extras)
    }
    assert {"export", "litert", "many"} <= mentioned <= set(declared)
