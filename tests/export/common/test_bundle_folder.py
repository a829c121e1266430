"""Tests that a bundle is either written completely or not at all."""

import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pocketdit.errors import ConfigError
from pocketdit.export.common.bundle_folder import replace_bundle


def write(folder: Path, text: str) -> None:
    with replace_bundle(folder) as temporary:
        (temporary / "manifest.json").write_text(text)


@pytest.fixture
def dead_pid() -> int:
    """The ID of a process that has exited."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_new_bundle_replaces_the_old_one(tmp_path: Path) -> None:
    for text in ("first", "second"):
        write(tmp_path / "b", text)
        assert (tmp_path / "b" / "manifest.json").read_text() == text
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_errors_leave_the_old_bundle(tmp_path: Path, error: BaseException) -> None:
    write(tmp_path / "b", "old")

    def fail() -> None:
        with replace_bundle(tmp_path / "b") as temporary:
            (temporary / "manifest.json").write_text("new")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
    assert (tmp_path / "b" / "manifest.json").read_text() == "old"


def test_leftovers_of_killed_processes_are_removed(tmp_path: Path, dead_pid: int) -> None:
    (tmp_path / f".b.{dead_pid}.tmp" / "scratch").mkdir(parents=True)
    other = tmp_path / f".b.{os.getppid()}.tmp"  # the process with this ID is still running
    other.mkdir()
    write(tmp_path / "b", "new")
    assert {path.name for path in tmp_path.iterdir()} == {"b", other.name}


def test_kill_between_the_two_renames_is_repaired(tmp_path: Path, dead_pid: int) -> None:
    moved = tmp_path / f".b.{dead_pid}.old"
    moved.mkdir()
    (moved / "manifest.json").write_text("old")
    with pytest.raises(RuntimeError), replace_bundle(tmp_path / "b"):
        raise RuntimeError
    assert (tmp_path / "b" / "manifest.json").read_text() == "old"
    assert not moved.exists()


def test_temporary_files_of_libraries_are_created_in_the_folder(tmp_path: Path) -> None:
    with replace_bundle(tmp_path / "b") as temporary:
        assert Path(tempfile.mkdtemp()).is_relative_to(temporary)
        (temporary / "manifest.json").write_text("")
    assert not Path(tempfile.gettempdir()).is_relative_to(tmp_path)


def test_folders_that_are_not_bundles_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    with pytest.raises(ConfigError, match="exists but is not an export bundle"), replace_bundle(tmp_path / "b"):
        pass
    assert (tmp_path / "b").is_dir()
