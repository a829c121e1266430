"""Uses an inherited environment variable to find processes that the test suite left running, and kills them.

Daemons and orphans also have the variable, whereas a search by parent process would miss them.
"""

import os
import signal
import time
import uuid
from pathlib import Path

SESSION_VARIABLE = "POCKETDIT_TEST_SESSION"
GRACE_SECONDS = 15.0
# A helper process that Python starts, and that exits together with its parent process.
HELPER = "multiprocessing.resource_tracker"


def new_session() -> str:
    """Return a value for the environment variable that no other run of the test suite uses."""
    return uuid.uuid4().hex


def running(session: str) -> dict[int, str]:
    """Return the process ID and command line of each running process of the session, except for the calling process.

    Returns an empty dictionary on systems without ``/proc``.
    """
    variable = f"{SESSION_VARIABLE}={session}".encode()
    processes = {}
    for folder in Path("/proc").glob("[0-9]*"):
        pid = int(folder.name)
        try:
            in_session = variable in (folder / "environ").read_bytes().split(b"\0")
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:  # the process has just exited, or another user owns it
            continue
        if in_session and command and pid != os.getpid() and HELPER not in command:  # a zombie has no command line
            processes[pid] = command
    return processes


def kill_leftovers(session: str, grace: float = GRACE_SECONDS) -> list[str]:
    """Wait for the session's processes to exit, and kill those that do not.

    Args:
        session: The value of the environment variable.
        grace: Time to wait in seconds.

    Returns:
        The process ID and the command line of each killed process.
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
