"""Tests how the processes of a run prepare the folder of the run that they resume."""

import threading
from pathlib import Path

import pytest

from pocketdit.artifacts.run_folder import RunFolder
from pocketdit.errors import RunError
from pocketdit.running import folders
from pocketdit.running.folders import prepare_resumed


@pytest.fixture(name="interrupted")
def fixture_interrupted(tmp_path: Path) -> RunFolder:
    """A run that was killed after it had moved the old checkpoint away, and before it published the new one."""
    folder = RunFolder(tmp_path / "experiment" / "run")
    folder.new_checkpoint.mkdir(parents=True)
    folder.checkpoint.with_name(".old.ckpt").write_text("old")
    return folder


def test_other_processes_wait_until_the_first_has_restored_the_checkpoint(
    interrupted: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    restored = threading.Event()

    def restore() -> None:
        restored.set()
        interrupted.clean()

    first = threading.Timer(0.3, restore)
    first.start()
    try:
        prepare_resumed(interrupted)
        assert restored.is_set()
        assert interrupted.checkpoint.read_text() == "old"
    finally:
        first.join()
    prepare_resumed(interrupted)  # nothing is left to wait for


def test_the_first_process_restores_the_checkpoint(interrupted: RunFolder) -> None:
    prepare_resumed(interrupted)
    assert [path.name for path in interrupted.checkpoint.parent.iterdir()] == ["last.ckpt"]
    assert interrupted.checkpoint.read_text() == "old"


def test_a_process_does_not_wait_forever(interrupted: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_PROCID", "3")
    monkeypatch.setattr(folders, "RESTORE_SECONDS", 0)
    with pytest.raises(RunError, match=r"last\.ckpt: process 0 has not restored the checkpoint within 0 s"):
        prepare_resumed(interrupted)
