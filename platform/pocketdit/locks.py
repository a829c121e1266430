"""Locks that keep two processes from writing to the same folder."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from pocketdit.errors import RunError

# Error codes of file systems that do not support locks. On such a file system, nothing is locked.
_UNSUPPORTED = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)


@contextmanager
def hold_lock(path: Path, message: str) -> Iterator[None]:
    """Hold a lock during a ``with`` block.

    The lock is released when the process exits, even if it is killed. Forked data workers do not inherit it.

    Args:
        path: The lock file, which is created in an existing folder and kept.
        message: The error message if another process holds the lock.

    Raises:
        RunError: Another process holds the lock.
    """
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise RunError(message) from None
    except NotImplementedError:
        pass  # the file system does not support locks
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
    try:
        yield
    finally:
        lock.release()
