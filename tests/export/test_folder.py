"""A bundle is there whole or not at all."""

import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pocketdit.errors import ConfigError
from pocketdit.export.folder import written_whole


def write(folder: Path, text: str) -> None:
    with written_whole(folder) as temporary:
        (temporary / "manifest.json").write_text(text)


@pytest.fixture
def dead() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_new_bundle_takes_the_old_ones_place(tmp_path: Path) -> None:
    for text in ("first", "second"):
        write(tmp_path / "b", text)
        assert (tmp_path / "b" / "manifest.json").read_text() == text
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_an_error_leaves_what_was_there(tmp_path: Path, error: BaseException) -> None:
    write(tmp_path / "b", "old")
    with pytest.raises(type(error)), written_whole(tmp_path / "b") as temporary:
        (temporary / "manifest.json").write_text("new")
        raise error
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
    assert (tmp_path / "b" / "manifest.json").read_text() == "old"


def test_what_a_killed_process_left_is_removed(tmp_path: Path, dead: int) -> None:
    (tmp_path / f".b.{dead}.tmp" / "scratch").mkdir(parents=True)
    other = tmp_path / f".b.{os.getppid()}.tmp"  # of a process that lives
    other.mkdir()
    write(tmp_path / "b", "new")
    assert {path.name for path in tmp_path.iterdir()} == {"b", other.name}


def test_a_kill_between_the_two_renames_is_mended(tmp_path: Path, dead: int) -> None:
    aside = tmp_path / f".b.{dead}.old"
    aside.mkdir()
    (aside / "manifest.json").write_text("old")
    with pytest.raises(RuntimeError), written_whole(tmp_path / "b"):
        raise RuntimeError
    assert (tmp_path / "b" / "manifest.json").read_text() == "old" and not aside.exists()


def test_libraries_write_their_temporary_files_into_it(tmp_path: Path) -> None:
    with written_whole(tmp_path / "b") as temporary:
        assert Path(tempfile.mkdtemp()).is_relative_to(temporary)
        (temporary / "manifest.json").write_text("")
    assert not Path(tempfile.gettempdir()).is_relative_to(tmp_path)


def test_a_folder_that_is_no_bundle_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    with pytest.raises(ConfigError, match="is no exported bundle"), written_whole(tmp_path / "b"):
        pass
    assert (tmp_path / "b").is_dir()
