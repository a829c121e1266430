"""Kills runs with SIGKILL. The same command must resume each run, with the same results as an undisturbed run."""

import contextlib
import json
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

from pocketdit.artifacts.run_folder import RunFolder
from pocketdit.commands.main import main
from tests.fuzz.command import run_command
from tests.fuzz.file_events import on_file_events
from tests.fuzz.fuzzer import Fuzzer, Input
from tests.fuzz.tiny_runs import REFERENCE, STAGES, STEPS, arguments, differences, link_references, prepare, untracked

NAME = "killed"


def start(command: list[str], log: Path, before: Callable[[], None] = lambda: None) -> BaseProcess:
    """Start a command in a forked process that first calls ``before``."""

    def call() -> None:
        before()
        with log.open("w") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
            status = main(command)
        os._exit(status)

    process = multiprocessing.get_context("fork").Process(target=call)
    process.start()
    return process


def kill_before_operation(command: list[str], log: Path, folder: Path, number: int) -> BaseProcess:
    """Start a command, and kill it just before its file operation ``number`` in a folder, counted from 0."""
    left = iter(range(number))

    def act(_: str) -> None:
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    process = start(command, log, lambda: on_file_events(folder, act))
    process.join()
    return process


def kill_after_step(command: list[str], log: Path, run: RunFolder, step: int, delay: float) -> BaseProcess:
    """Start a command, and kill it ``delay`` seconds after it has logged a step."""
    process, line = start(command, log), f'"step": {step},'.encode()
    while process.is_alive() and not (run.metrics.exists() and line in run.metrics.read_bytes()):
        time.sleep(0.002)
    time.sleep(delay)
    process.kill()
    process.join()
    return process


def _kill(given: Input, command: list[str], run: RunFolder, operations: list[str]) -> str:
    """Start or resume a run, kill it at a random point, and return a description of this point."""
    number, step = given.numbers.randrange(len(operations)), given.numbers.randrange(STEPS - 1)
    delay, by_step = given.numbers.uniform(0, 0.2), given.numbers.random() < 0.5
    log = given.folder / "log"
    while True:
        if by_step:
            point, process = f"{delay * 1000:.0f} ms after step {step}", kill_after_step(command, log, run, step, delay)
        else:
            point = f"before {operations[number].replace(REFERENCE, NAME)}, operation {number}"
            process = kill_before_operation(command, log, run.path.parent, number)
        if process.exitcode == -signal.SIGKILL:
            return point
        # The run was not killed: it ended too early, or a resumed run performed fewer file operations.
        assert process.exitcode == 0, log.read_text()
        shutil.rmtree(run.path)
        delay, number = delay / 2, number - 1


def _run(given: Input) -> str:
    stage, workers = given.kind.split(" with ")
    link_references(given.shared, given.folder)
    run = RunFolder(given.folder / "runs" / stage / NAME)
    command = [*arguments(stage, given.shared, given.folder, NAME), f"data.init_args.workers={workers}"]
    operations = json.loads((given.shared / f"{stage}.json").read_text())
    points = [_kill(given, command, run, operations) for _ in range(given.numbers.choice((1, 1, 2)))]
    resumed = run_command(*command)
    assert resumed.status == 0, (points, resumed.lines)
    different = differences(RunFolder(given.shared / "runs" / stage / REFERENCE), run)
    missing = untracked(run, given.folder / "mlflow.db")
    left = [path.name for path in run.path.rglob(".*")]
    assert (different, missing, left) == ([], [], []), (points, different, missing, left)
    return f"resumed: {'; '.join(points)}"


KILLS = Fuzzer(
    "kills",
    tuple(f"{stage} with {workers}" for workers in (0, 2) for stage in STAGES),
    _run,
    count=6,
    full_count=60,
    seconds=600,
    prepare=prepare,
)
