"""Run names, finding runs by name, and the lock of a run folder."""

import subprocess
import sys
from pathlib import Path

import pytest

from pocketdit.artifacts.run_folder import RunFolder, create, find, lock
from pocketdit.commands.main import main
from pocketdit.errors import ConfigError, RunError

PRETRAIN = Path(__file__).parents[2] / "experiments" / "elastic_pretrain.yaml"
HOLD = """
import sys
from pathlib import Path
from pocketdit.artifacts.run_folder import RunFolder, lock
with lock(RunFolder(Path(sys.argv[1]))):
    print("held", flush=True)
    input()
"""


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", ".hidden", "latest"])
def test_a_name_that_cannot_be_a_folder_is_rejected(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="plain name"):
        create(tmp_path / "runs", "e", name, "")
    assert not (tmp_path / "runs").exists()


def test_a_run_named_without_its_experiment_is_suggested_with_it(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d"):
        create(tmp_path, "e", name, "")
    with pytest.raises(RunError, match="did you mean e/a"):
        find(tmp_path, "a")
    with pytest.raises(RunError) as unknown:
        find(tmp_path, "nothing-like-it")
    assert "e/latest" not in str(unknown.value)


def test_only_one_process_trains_in_a_folder(tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """While another process holds the lock, nothing is touched; once it is killed, the same command resumes."""
    words = ["run", str(PRETRAIN), *tiny]
    assert main([*words, "training.max_steps=1", "--name", "x"]) == 0
    folder = RunFolder(tmp_path / "runs" / "elastic_pretrain" / "x")
    weights = folder.weights.read_bytes()
    folder.finished.unlink()
    folder.checkpoint.unlink()
    command = [sys.executable, "-c", HOLD, str(folder.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        capsys.readouterr()
        assert main([*words, "training.max_steps=1", "--resume", "elastic_pretrain/x"]) == 1
        assert "being trained by another process" in capsys.readouterr().err
        assert folder.weights.read_bytes() == weights
        assert not folder.finished.exists()
        other.kill()
    assert main([*words, "training.max_steps=1", "--resume", "elastic_pretrain/x"]) == 0
    assert "no checkpoint yet; it starts at step 0" in capsys.readouterr().out
    with lock(folder):
        pass


def test_a_lock_that_cannot_be_created_is_an_error(tmp_path: Path) -> None:
    """Only a file system without locks may train without one; a lock that is a folder is another fault."""
    (tmp_path / "lock").mkdir()
    with pytest.raises(OSError), lock(RunFolder(tmp_path)):
        raise AssertionError("the folder was used without its lock")
