"""Tests for run names, for finding runs by name, and for locking a run folder."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pocketdit.artifacts.run_folder import RunFolder, create, find, lock
from pocketdit.commands.main import main
from pocketdit.errors import ConfigError, RunError

PRETRAIN = Path(__file__).parents[2] / "experiments" / "elastic_pretrain.yaml"
HOLD_LOCK = """
import sys
from pathlib import Path
from pocketdit.artifacts.run_folder import RunFolder, lock
with lock(RunFolder(Path(sys.argv[1]))):
    print("locked", flush=True)
    input()
"""


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", ".hidden", "latest"])
def test_an_invalid_folder_name_is_rejected(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="plain name"):
        create(tmp_path / "runs", "e", name, "")
    assert not (tmp_path / "runs").exists()


def test_a_name_can_be_used_if_the_process_was_killed_before_it_wrote_anything(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "e" / "a")
    folder.path.mkdir(parents=True)
    (folder.path / ".config.yaml.123.tmp").write_text("experi")
    create(tmp_path, "e", "a", "experiment: e\n")
    assert [path.name for path in folder.path.iterdir()] == ["config.yaml"]
    with pytest.raises(ConfigError, match=r"already exists; resume it with --resume e/a"):
        create(tmp_path, "e", "a", "")


def test_a_folder_without_a_configuration_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "e" / "a").mkdir(parents=True)
    (tmp_path / "e" / "a" / "weights.safetensors").touch()
    (tmp_path / "e" / "b").symlink_to("missing")
    for name in ("a", "b"):
        with pytest.raises(ConfigError, match=r"has no config\.yaml; delete it, or choose another --name"):
            create(tmp_path, "e", name, "")
    assert [path.name for path in (tmp_path / "e" / "a").iterdir()] == ["weights.safetensors"]


def test_a_run_name_without_its_experiment_gets_a_suggestion(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d"):
        create(tmp_path, "e", name, "")
    with pytest.raises(RunError, match="did you mean e/a"):
        find(tmp_path, "a")
    with pytest.raises(RunError) as unknown:
        find(tmp_path, "nothing-like-it")
    assert "e/latest" not in str(unknown.value)


def test_the_newest_run_is_suggested_if_the_latest_was_deleted(tmp_path: Path) -> None:
    for number, name in enumerate(("a", "b", "c")):
        os.utime(create(tmp_path, "experiment", name, "").config, (number, number))
    shutil.rmtree(tmp_path / "experiment" / "c")
    with pytest.raises(RunError, match=r"no run named experiment in .*; did you mean experiment/b"):
        find(tmp_path, "experiment")


def test_only_one_process_trains_in_a_folder(
    tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """While another process holds the lock, the run does not change. Once that process is killed, the run resumes."""
    arguments = ["run", str(PRETRAIN), *tiny]
    assert main([*arguments, "training.max_steps=1", "--name", "x"]) == 0
    folder = RunFolder(tmp_path / "runs" / "elastic_pretrain" / "x")
    weights = folder.weights.read_bytes()
    folder.finished.unlink()
    folder.checkpoint.unlink()
    command = [sys.executable, "-c", HOLD_LOCK, str(folder.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        capsys.readouterr()
        assert main([*arguments, "training.max_steps=1", "--resume", "elastic_pretrain/x"]) == 1
        assert "being trained by another process" in capsys.readouterr().err
        assert folder.weights.read_bytes() == weights
        assert not folder.finished.exists()
        other.kill()
    assert main([*arguments, "training.max_steps=1", "--resume", "elastic_pretrain/x"]) == 0
    assert "no checkpoint; it starts again at step 0" in capsys.readouterr().out
    with lock(folder):
        pass


def test_a_lock_that_cannot_be_created_is_an_error(tmp_path: Path) -> None:
    """A run trains without a lock only if the file system does not support locks."""
    (tmp_path / "lock").mkdir()
    with pytest.raises(IsADirectoryError), lock(RunFolder(tmp_path)):
        raise AssertionError("the folder was used without a lock")
