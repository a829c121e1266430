"""Tests that processes left running by tests are killed, and that tests can interrupt the processes that they start."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.processes import SESSION_VARIABLE, kill_leftovers, new_session, running

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc")  # noqa: PTH112


def test_orphan_is_found_and_killed() -> None:
    """The child process exits immediately, but leaves a grandchild in a new session, as a faulty test might."""
    session = new_session()
    code = "import subprocess, sys; subprocess.Popen(['sleep', '600'], start_new_session=True)"
    subprocess.run([sys.executable, "-c", code], env=os.environ | {SESSION_VARIABLE: session}, check=True)
    assert list(running(session).values()) == ["sleep 600"]
    (line,) = kill_leftovers(session, grace=0.5)
    assert line.endswith("sleep 600")
    deadline = time.monotonic() + 10
    while running(session) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert running(session) == {}


def test_processes_that_tests_start_can_be_interrupted() -> None:
    """A process that a test starts reacts to SIGINT, even if the suite was started with SIGINT ignored."""
    process = subprocess.Popen([sys.executable, "-c", "print(flush=True); import time; time.sleep(600)"],
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)  # fmt: skip
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == -signal.SIGINT
