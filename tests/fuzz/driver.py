"""Runs each case in a process of its own, and reports tracebacks, hangs, and crashes."""

import contextlib
import io
import multiprocessing
import os
import resource
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from pocketdit.commands.main import main

SECONDS = 60.0
MEMORY = 8 << 30  # bytes of address space in addition to what the process uses at its start


class Case(NamedTuple):
    """A damaged input.

    Attributes:
        name: What is damaged, and how.
        run: Damages an input inside an empty folder and uses it. Returns what became of it, or raises an
            ``AssertionError``.
    """

    name: str
    run: Callable[[Path], str]


class Outcome(NamedTuple):
    """What became of a case, with the output if it failed."""

    case: str
    passed: bool
    text: str

    def __str__(self) -> str:
        return f"{'ok  ' if self.passed else 'FAIL'} {self.case}: {self.text}"


class Output(NamedTuple):
    """The exit status and the lines of a command."""

    status: int
    lines: list[str]


def run_command(*arguments: object) -> Output:
    """Run ``lightning`` in this process and check that it did not fail with a traceback.

    Raises:
        AssertionError: The command printed a traceback, or it failed without a line that says why.
    """
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as error:  # argparse
            status = int(error.code or 0)
    text = printed.getvalue()
    text.encode()  # raises an error for text that cannot be printed
    assert "Traceback" not in text, text
    lines = text.splitlines()
    assert status == 0 or (status in (1, 2) and lines and lines[-1].startswith("lightning ")), text
    return Output(status, lines)


def run_case(case: Case, seconds: float = SECONDS) -> Outcome:
    """Run a case in a forked process, which is killed when the time is up."""
    with tempfile.TemporaryDirectory() as temporary:
        folder, report = Path(temporary) / "case", Path(temporary) / "report"
        folder.mkdir()
        process = multiprocessing.get_context("fork").Process(target=_call, args=(case, folder, report))
        process.start()
        process.join(seconds)
        if hangs := process.is_alive():
            process.kill()
            process.join()
        text = report.read_text(errors="replace") if report.exists() else ""
        if hangs:
            return Outcome(case.name, False, f"hangs for more than {seconds:.0f} s\n{text}")
        if process.exitcode:
            return Outcome(case.name, False, f"exit status {process.exitcode}\n{text}")
        return Outcome(case.name, True, text)


def run_cases(cases: Iterable[Case]) -> list[Outcome]:
    """Run cases one after the other, print what became of each, and return those that failed."""
    failed = []
    for case in cases:
        outcome = run_case(case)
        print(outcome, flush=True)
        if not outcome.passed:
            failed.append(outcome)
    return failed


def _call(case: Case, folder: Path, report: Path) -> None:
    with report.open("w", errors="replace") as file:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
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
