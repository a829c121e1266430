"""A folder that appears under its name when it is whole, or not at all."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pocketdit.errors import ConfigError

MANIFEST = "manifest.json"


@contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """Gives a temporary sibling to write into, and takes it to ``folder`` at the end, in place of an older bundle.

    An error or Ctrl-C removes it; what a killed process left is removed by the next call. Temporary files that
    libraries make meanwhile go into it as well. Raises ``ConfigError`` where ``folder`` is there and no bundle.
    """
    if folder.exists() and not (folder / MANIFEST).is_file():
        raise ConfigError(f"{folder} exists and is no exported bundle (no {MANIFEST}): move it, or choose another out")
    folder.parent.mkdir(parents=True, exist_ok=True)
    clean(folder)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    scratch = temporary / "scratch"
    before = tempfile.tempdir
    try:
        scratch.mkdir(parents=True)
        tempfile.tempdir = str(scratch)
        yield temporary
        shutil.rmtree(scratch)
        flush(temporary)
        take_place(temporary, folder)
    finally:
        tempfile.tempdir = before
        shutil.rmtree(temporary, ignore_errors=True)


def take_place(temporary: Path, folder: Path) -> None:
    """Rename; a kill between the two renames is mended by ``clean``."""
    old = temporary.with_suffix(".old")
    if folder.exists():
        folder.rename(old)
    temporary.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def clean(folder: Path) -> None:
    """Remove what killed exports of this name left, and restore a bundle that one of them had set aside."""
    pattern = re.compile(rf"\.{re.escape(folder.name)}\.(\d+)\.(tmp|old)")
    for path in folder.parent.iterdir():
        found = pattern.fullmatch(path.name)
        if not found or alive(int(found[1])):
            continue
        if found[2] == "old" and not folder.exists():
            path.rename(folder)
        else:
            shutil.rmtree(path, ignore_errors=True)


def alive(process: int) -> bool:
    """Whether another process with this number runs on this machine."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return process != os.getpid()


def flush(folder: Path) -> None:
    """Everything below to disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
