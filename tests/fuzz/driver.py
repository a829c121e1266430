"""Runs each case in its own process, and reports tracebacks, hangs, and crashes."""

import contextlib
import faulthandler
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable
from multiprocessing.connection import wait
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

SECONDS = 60.0
MEMORY = 8 << 30  # bytes of address space that a case may use in addition to what its process uses at the start


class Case(NamedTuple):
    """A damaged input and the code that uses it.

    Attributes:
        name: What is damaged, and how.
        run: Function that damages an input in an empty folder and uses it. It returns a description of the outcome
            that starts with a verdict, as in "refused: the file is empty", or raises ``AssertionError`` if the case
            fails.
        seconds: Time after which the case counts as a hang.
    """

    name: str
    run: Callable[[Path], str]
    seconds: float = SECONDS


class Outcome(NamedTuple):
    """The outcome of a case, with its output if it failed."""

    case: str
    passed: bool
    text: str

    def __str__(self) -> str:
        return f"{'ok  ' if self.passed else 'FAIL'} {self.case}: {self.text}"

    @property
    def verdict(self) -> str:
        """The first word of the result, such as "refused", or "failed"."""
        return self.text.partition(":")[0] if self.passed else "failed"


class _Process:
    """A case that runs in a forked process, which is the leader of a separate process group."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.deadline = time.monotonic() + case.seconds
        self._temporary = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        folder, self._report = Path(self._temporary.name) / "case", Path(self._temporary.name) / "report"
        folder.mkdir()
        self._process = multiprocessing.get_context("fork").Process(target=_call, args=(case, folder, self._report))
        self._process.start()
        self.sentinel = self._process.sentinel

    def end(self, hangs: bool) -> Outcome:
        """Kill all processes of the case that are still running, and return the outcome."""
        if hangs:
            self._process.kill()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid or 0, signal.SIGKILL)
        self._process.join()
        text = self._report.read_text(errors="replace") if self._report.exists() else ""
        self._temporary.cleanup()
        if hangs:
            text = f"hangs for more than {self.case.seconds:.0f} s\n{text}"
        elif self._process.exitcode:
            text = f"exit status {self._process.exitcode}\n{text}"
        return Outcome(self.case.name, not (hangs or self._process.exitcode), text)


def run_case(case: Case) -> Outcome:
    """Run a case in a forked process, which is killed at the case's time limit."""
    process = _Process(case)
    return process.end(hangs=not wait([process.sentinel], case.seconds))


def run_cases(cases: Iterable[Case], jobs: int = 1, verbose: bool = False) -> list[Outcome]:
    """Run cases, print a progress line and the failures, and return the outcomes.

    Args:
        cases: The cases.
        jobs: Number of cases that run at the same time.
        verbose: Whether to also print the cases that pass.
    """
    waiting, running = deque(cases), list[_Process]()
    outcomes, failed = list[Outcome](), 0
    bar = tqdm(total=len(waiting), unit="case", mininterval=0.5 if sys.stderr.isatty() else 20)
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                running.append(_Process(waiting.popleft()))
            first = min(process.deadline for process in running)
            ended = wait([process.sentinel for process in running], max(0, first - time.monotonic()))
            for process in [p for p in running if p.sentinel in ended or p.deadline < time.monotonic()]:
                running.remove(process)
                outcomes.append(outcome := process.end(hangs=process.sentinel not in ended))
                failed += not outcome.passed
                if verbose or not outcome.passed:
                    bar.write(str(outcome))
                bar.set_postfix_str(f"{failed} failed", refresh=False)
                bar.update()
    finally:
        for process in running:  # the program was interrupted
            process.end(hangs=True)
        bar.close()
    return outcomes


def _call(case: Case, folder: Path, report: Path) -> None:
    os.setpgid(0, 0)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with report.open("w", errors="replace") as file:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
        faulthandler.dump_traceback_later(case.seconds * 0.95, file=file)  # shows where a case hangs
        try:
            with contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
                text = case.run(folder)
            file.truncate(0)
            file.seek(0)
            file.write(text)
            status = 0
        except BaseException:
            traceback.print_exc(file=file)
            status = 1
    sys.stdout.flush()
    os._exit(status)
