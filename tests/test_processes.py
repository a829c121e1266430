"""The check at the end of the suite finds what a test leaves running, and tests can interrupt what they start."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.processes import SESSION_VARIABLE, end_leftovers, new_session, running

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc")  # noqa: PTH112


def test_an_orphan_is_found_and_ended() -> None:
    """The child exits at once and leaves a grandchild in its own session, as a careless test would."""
    session = new_session()
    code = "import subprocess, sys; subprocess.Popen(['sleep', '600'], start_new_session=True)"
    subprocess.run([sys.executable, "-c", code], env=os.environ | {SESSION_VARIABLE: session}, check=True)
    assert list(running(session).values()) == ["sleep 600"]
    (line,) = end_leftovers(session, grace=0.5)
    assert line.endswith("sleep 600")
    deadline = time.monotonic() + 10
    while running(session) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert running(session) == {}


def test_processes_that_tests_start_can_be_interrupted() -> None:
    """This also holds if the suite itself was started with SIGINT ignored."""
    process = subprocess.Popen([sys.executable, "-c", "print(flush=True); import time; time.sleep(600)"],
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)  # fmt: skip
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == -signal.SIGINT
