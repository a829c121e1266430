"""Atomic file writes and checksums."""

import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

# First bytes of the text file that a Git checkout without Git LFS contains in place of a large file.
LFS_POINTER = b"version https://git-lfs"


def sha256_of(path: Path) -> str:
    """Return a file's SHA-256 as hexadecimal digits.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_regular_file(path: Path) -> None:
    """Check that a path is a regular file if it exists.

    The path may be a link to a FIFO or a device. Opening or reading one of these can block forever.

    Raises:
        OSError: The path exists but is not a regular file.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "Not a regular file", str(path))


def damage(path: Path, error: BaseException) -> str:
    """Explain briefly why a binary file could not be read, for example because it is a Git LFS pointer."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    with path.open("rb") as file:
        start = file.read(len(LFS_POINTER))
    if start == LFS_POINTER:
        return "it is a Git LFS pointer; get the file itself with: git lfs pull"
    return (str(error).splitlines() or [type(error).__name__])[0] if start else "it is empty"


def write_atomically(path: Path, content: bytes | str | Callable[[Path], None]) -> Path:
    """Write a file atomically, so that even a crash cannot leave a partial file.

    The content is written to a temporary file in the same folder, flushed to disk, and renamed.

    Args:
        path: Path of the file. Missing parent folders are created.
        content: The content, or a function that writes the content to the path passed to it.

    Returns:
        ``path``.

    Raises:
        OSError: The file cannot be written, for example because the disk is full. The error contains the path, and the
            temporary file is removed.
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
    except OSError as error:
        if error.errno is not None:  # raised by the operating system rather than, for example, by a failed download
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)
    return path
