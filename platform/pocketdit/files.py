"""Atomic writes and checksums of files."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path


def sha256_of(path: Path) -> str:
    """Return a file's SHA-256 as hexadecimal digits.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path, content: bytes | str | Callable[[Path], None]) -> Path:
    """Write a file so that it never exists in part, even after a crash.

    The content is written to a temporary file in the same folder, flushed to disk, and renamed.

    Args:
        path: The file. Missing parent folders are created.
        content: The content, or a function that writes it to the path it is called with.

    Returns:
        ``path``.

    Raises:
        OSError: Writing failed, for example because the disk is full. The temporary file is removed.
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
