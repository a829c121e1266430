"""Keeps two commands on one machine from running the same study."""

from collections.abc import Iterator
from contextlib import contextmanager

import filelock

from pocketdit.errors import RunError
from sweeps.settings import Sweep


@contextmanager
def lock(sweep: Sweep) -> Iterator[None]:
    """Hold the study's lock while the block runs. The lock is also released if the process is killed.

    Raises:
        RunError: Another command holds the lock. Both commands would queue the missing trials.
    """
    sweep.folder.mkdir(parents=True, exist_ok=True)
    file_lock = filelock.FileLock(sweep.folder / "lock", blocking=False)
    try:
        file_lock.acquire()
    except filelock.Timeout:
        raise RunError(
            f"sweep: {sweep.sweep} is already being run by another command, which holds {file_lock.lock_file}; "
            "wait for it or stop it"
        ) from None
    try:
        yield
    finally:
        file_lock.release()
