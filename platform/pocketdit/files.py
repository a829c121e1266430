"""Files that matter appear under their name only when they are complete; and what a file is known by."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path


def sha256_of(path: Path) -> str:
    """A file's SHA-256 in hexadecimal digits. ``OSError`` where it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path, content: bytes | str | Callable[[Path], None]) -> Path:
    """Write ``content`` (or let it write) to a temporary name beside ``path``, flush to disk, rename.

    A crash leaves the old file or none, never half of the new one. ``OSError`` (a full disk) passes through
    after the temporary file is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        if callable(content):
            content(temporary)
        else:
            temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path
