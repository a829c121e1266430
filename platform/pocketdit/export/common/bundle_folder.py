"""Write a bundle's folder so that it appears under its name only when it is complete."""

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
    """Yield a temporary sibling to write into, then rename it to ``folder``, replacing an older bundle.

    An error or Ctrl-C removes the temporary folder; what a killed process leaves behind is removed by the next call.
    Temporary files that libraries create meanwhile go into it, too.

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
    """Rename ``temporary`` to ``folder``. ``_clean_up`` repairs a kill between the two renames."""
    old = temporary.with_suffix(".old")
    if folder.exists():
        folder.rename(old)
    temporary.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _clean_up(folder: Path) -> None:
    """Remove leftovers of killed exports to this folder, and restore a bundle that one of them had moved away."""
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
    """Whether another process with this ID runs on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid != os.getpid()


def _flush(folder: Path) -> None:
    """Flush every file in the folder to disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
