"""Keeps two commands on one machine from running the same study."""

from contextlib import AbstractContextManager

from pocketdit.locks import hold_lock
from sweeps.settings import Sweep


def lock(sweep: Sweep) -> AbstractContextManager[None]:
    """Hold the study's lock while the returned context is open. It is also released if the process is killed.

    Raises:
        RunError: Another command is running the study. If both ran it, both would queue the missing trials.
    """
    path = sweep.folder / "lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    return hold_lock(
        path,
        f"sweep: {sweep.sweep} is already being run by another command, which holds {path}; wait for it or stop it",
    )
