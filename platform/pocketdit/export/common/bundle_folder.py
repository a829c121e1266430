"""Write a bundle to a temporary folder, which is renamed to its final name when the bundle is complete."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pocketdit.errors import ConfigError
from pocketdit.export.common.bundle_files import MANIFEST


@contextmanager
def replace_bundle(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder to write to, then rename it to ``folder``. An existing bundle is replaced.

    The temporary folder is removed after an error or Ctrl-C. If the process is killed, the next call removes it. While
    the context is open, libraries also create their temporary files in this folder.

    Raises:
        ConfigError: ``folder`` exists and is not a bundle.
    """
    if folder.exists() and not (folder / MANIFEST).is_file():
        raise ConfigError(
            f"out: {folder} exists but is not an export bundle (no {MANIFEST}); move it or choose another folder"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    _clean_up(folder)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    scratch = temporary / "scratch"
    previous = tempfile.tempdir
    try:
        scratch.mkdir(parents=True)
        tempfile.tempdir = str(scratch)
        yield temporary
        shutil.rmtree(scratch)
        _flush(temporary)
        _swap(temporary, folder)
    finally:
        tempfile.tempdir = previous
        shutil.rmtree(temporary, ignore_errors=True)


def _swap(temporary: Path, folder: Path) -> None:
    """Move ``temporary`` to ``folder``, replacing any existing bundle.

    If the process is killed between the two calls to ``rename``, ``_clean_up`` restores the old bundle.
    """
    old = temporary.with_suffix(".old")
    if folder.exists():
        folder.rename(old)
    temporary.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _clean_up(folder: Path) -> None:
    """Remove leftovers of killed exports to this folder, and restore a bundle that one of them moved away."""
    pattern = re.compile(rf"\.{re.escape(folder.name)}\.(\d+)\.(tmp|old)")
    for path in folder.parent.iterdir():
        match = pattern.fullmatch(path.name)
        if not match or _is_other_process(int(match[1])):
            continue
        if match[2] == "old" and not folder.exists():
            path.rename(folder)
        else:
            shutil.rmtree(path, ignore_errors=True)


def _is_other_process(pid: int) -> bool:
    """Return whether another process with this ID is running on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid != os.getpid()


def _flush(folder: Path) -> None:
    """Flush all files in the folder to disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
