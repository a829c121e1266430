"""Processes that the suite starts: found by an environment variable that all of them inherit, and ended.

A daemon or an orphan keeps its environment, so this finds processes that a search by parent would miss.
"""

import os
import signal
import time
import uuid
from pathlib import Path

SESSION_VARIABLE = "POCKETDIT_TEST_SESSION"
GRACE_SECONDS = 15.0
# Python's own helper, which ends with the process that started it.
HELPER = "multiprocessing.resource_tracker"


def new_session() -> str:
    """Return a value that no other suite uses."""
    return uuid.uuid4().hex


def running(session: str) -> dict[int, str]:
    """Return the command lines of the session's running processes by process number, without the caller.

    Returns an empty dictionary on systems without ``/proc``.
    """
    mark = f"{SESSION_VARIABLE}={session}".encode()
    processes = {}
    for folder in Path("/proc").glob("[0-9]*"):
        pid = int(folder.name)
        try:
            marked = mark in (folder / "environ").read_bytes().split(b"\0")
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:  # the process has just ended, or belongs to another user
            continue
        if marked and command and pid != os.getpid() and HELPER not in command:  # a zombie has no command line
            processes[pid] = command
    return processes


def end_leftovers(session: str, grace: float = GRACE_SECONDS) -> list[str]:
    """Wait for the session's processes to end, kill those that do not, and describe them.

    Args:
        session: The value of the environment variable.
        grace: Seconds to wait.

    Returns:
        One line per process that was still running after the wait.
    """
    deadline = time.monotonic() + grace
    while (processes := running(session)) and time.monotonic() < deadline:
        time.sleep(0.2)
    for pid in processes:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    return [f"{pid}: {command[:200]}" for pid, command in processes.items()]
