"""Replaces the contents of a folder so that either the old or the new contents survive if the process is killed.

The new contents are written to a hidden folder inside the folder. Renaming the hidden folder commits the
replacement. The parts are then moved into place. If the process is killed in between, the next process that reads
or writes the folder moves the remaining parts.
"""

import os
import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from pocketdit.locks import hold_lock

BUILDING = ".building"
_REPLACING = ".replacing"
_LOCK = ".lock"


def hold_write_lock(folder: Path) -> AbstractContextManager[None]:
    """Return a context manager that holds the folder's lock.

    Raises:
        RunError: Another process holds the lock.
    """
    message = f"{folder}: another process is writing to this folder; wait until it finishes, or choose another folder"
    return hold_lock(folder / _LOCK, message)


def replace_contents(folder: Path, parts: Sequence[str]) -> None:
    """Replace the folder's contents with those in ``folder / BUILDING``. The caller must hold the lock.

    Args:
        folder: The folder.
        parts: Names of the files and folders to replace. The last part marks the contents as complete.
    """
    (folder / BUILDING).rename(folder / _REPLACING)
    _move_parts(folder, parts)


def finish_replacement(folder: Path, parts: Sequence[str]) -> None:
    """Move the remaining parts if a process was killed while it replaced the folder's contents.

    Raises:
        RunError: The process that replaces the contents is still running.
    """
    if (folder / _REPLACING).is_dir():
        with hold_write_lock(folder):
            _move_parts(folder, parts)


def remove(path: Path) -> None:
    """Remove a folder or a file, if it exists."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _move_parts(folder: Path, parts: Sequence[str]) -> None:
    new = folder / _REPLACING
    old = new / "old"
    old.mkdir(exist_ok=True)
    # The part that marks the contents as complete is removed first and added last, so that no process reads a mixture
    # of old and new parts.
    for part in (parts[-1], *parts[:-1]):
        if (new / part).exists() and os.path.lexists(folder / part):
            (folder / part).rename(old / part)
    for part in parts:
        if (new / part).exists():
            (new / part).rename(folder / part)
    remove(folder / BUILDING)
    new.rename(folder / BUILDING)  # removing the old contents can take a long time
    remove(folder / BUILDING)
