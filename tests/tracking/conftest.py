import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from pocketdit.tracking.mlflow_run import MlflowRun
from pocketdit.tracking.target import open_target

PREAMBLE = """
import os, signal, sys, threading, time


def end_with_the_suite():
    os.read(0, 1)  # returns when the suite closes the pipe or is killed
    os.killpg(0, signal.SIGTERM)
    time.sleep(10)
    os.killpg(0, signal.SIGKILL)


threading.Thread(target=end_with_the_suite, daemon=True).start()
"""

StartProcess = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start_process() -> Iterator[StartProcess]:
    """Return a function that starts Python processes, which are stopped after the test.

    The function takes code, command-line arguments, and options for ``Popen``. Each process leads a process group. The
    group receives SIGTERM and then SIGKILL, either after the test or when the suite is killed.
    """
    processes: list[subprocess.Popen[str]] = []

    def start(code: str, *arguments: str, **options: object) -> subprocess.Popen[str]:
        process: subprocess.Popen[str] = subprocess.Popen(  # type: ignore[call-overload]  # the types of the options are unknown
            [sys.executable, "-c", PREAMBLE + code, *arguments],
            stdin=subprocess.PIPE, text=True, start_new_session=True, **options,
        )  # fmt: skip
        processes.append(process)
        return process

    yield start
    for process in processes:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(20)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the URI of a real SQLite store that all tests share, because creating its tables takes seconds."""
    folder = tmp_path_factory.mktemp("store")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    MlflowRun(folder, open_target(folder, uri, "created by the fixture", "run"))
    return uri


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "pretrain" / "first"
    folder.mkdir(parents=True)
    return folder
