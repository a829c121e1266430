"""Fills the disk just before a run writes a file. The run must report this, and must later resume correctly."""

import contextlib
import io
import json
import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

from pocketdit.artifacts.run_folder import RunFolder
from pocketdit.commands.main import main
from tests.fuzz.command import Output, checked, run_command
from tests.fuzz.file_events import on_file_events
from tests.fuzz.fuzzer import Fuzzer, Input
from tests.fuzz.small_disk import LimitedFiles, SmallDisk, small_disk
from tests.fuzz.tiny_runs import REFERENCE, STEPS, arguments, differences, link_references, prepare, untracked

NAME = "full"
JOURNAL, DATABASE = "metrics.jsonl", "mlflow.db"
# For each file that a run writes, the start of the file operation before which the disk is filled.
OPERATIONS = {
    "config.yaml": "open {name}/.config.yaml.tmp",
    "latest": "os.rename .latest",
    "lock": "open {name}/lock",
    "tracking.json": "open {name}/.tracking.json.tmp",
    "parents.json": "open {name}/.parents.json.tmp",
    "last.ckpt": "os.mkdir {name}/checkpoints",
    "weights.safetensors": "open {name}/.weights.safetensors.tmp",
    "preview": "open {name}/samples/",
    "palettes.safetensors": "open {name}/.palettes.safetensors.tmp",
    "quantization.json": "open {name}/.quantization.json.tmp",
    "quantization.png": "open {name}/.quantization.png.tmp",
    "finished": "open {name}/.finished.tmp",
}
LEFT = (0, 0, 4096, 200_000, 1_000_000)  # bytes to leave free; each case chooses one value

Disk = SmallDisk | LimitedFiles


def _run(given: Input) -> str:
    place, left = given.folder / "disk", given.numbers.choice(LEFT)
    place.mkdir()
    disk = small_disk(place)
    stage = "quantize_finetune" if given.kind.startswith(("palettes", "quantization")) else "elastic_pretrain"
    link_references(given.shared, place)
    run = RunFolder(place / "runs" / stage / NAME)
    command = arguments(stage, given.shared, place, NAME)
    if given.kind == DATABASE:
        return _fill_database(given, disk, run)
    if given.kind == JOURNAL:
        step = given.numbers.randrange(STEPS - 1)
        point = f"after step {step}"
        output = _start(command, given.folder / "log", lambda: _fill_after_step(disk, left, run, step))
    else:
        operations = json.loads((given.shared / f"{stage}.json").read_text())
        beginning = OPERATIONS[given.kind].format(name=REFERENCE)
        numbers = [number for number, operation in enumerate(operations) if operation.startswith(beginning)]
        number = given.numbers.choice(numbers)
        point = f"before operation {number}"
        output = _start(command, given.folder / "log", lambda: _fill_at(disk, left, run, number))
    disk.make_room()
    resumed = run_command(*command)
    assert resumed.status == 0, (point, output, resumed.lines)
    if output.status == 0:  # at most the tracking database was affected
        sent = run_command("sync", run.path, "--to", f"sqlite:///{place / DATABASE}")
        assert sent.status == 0, (point, output, sent.lines)
    require_same(given, stage, run, place / DATABASE)
    verdict = "stopped" if output.status else "finished"
    return f"{verdict}: {point}, {left} bytes left, {type(disk).__name__}: {output.lines[-1]}"


def _start(command: list[str], log: Path, before: Callable[[], None]) -> Output:
    """Run a command in a forked process that first calls ``before``, and return the command's output."""

    def call() -> None:
        printed = io.StringIO()
        before()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            status = main(command)
        LimitedFiles().make_room()
        log.write_text(printed.getvalue())
        os._exit(status)

    process = multiprocessing.get_context("fork").Process(target=call)
    process.start()
    process.join()
    assert process.exitcode is not None
    assert log.exists(), f"exit status {process.exitcode} without any output"
    return checked(process.exitcode, log.read_text())


def _fill_at(disk: Disk, left: int, run: RunFolder, number: int) -> None:
    """Fill the disk just before file operation ``number`` in the experiment's folder, counted from 0."""
    numbers = count()

    def act(_: str) -> None:
        if next(numbers) == number:
            disk.fill(left)

    on_file_events(run.path.parent, act)


def _fill_after_step(disk: Disk, left: int, run: RunFolder, step: int) -> None:
    """Fill the disk once a step has been logged."""

    def watch() -> None:
        line = f'"step": {step},'.encode()
        while not (run.metrics.exists() and line in run.metrics.read_bytes()):
            time.sleep(0.002)
        disk.fill(left)

    threading.Thread(target=watch, daemon=True).start()


def _fill_database(given: Input, disk: Disk, run: RunFolder) -> str:
    """Fill only the disk that contains the tracking database, which must not stop the run."""
    if isinstance(disk, LimitedFiles):
        return "skipped: this system does not allow a separate disk"
    link_references(given.shared, given.folder)
    apart = RunFolder(given.folder / "runs" / run.path.parent.name / NAME)
    database = run.path.parents[2] / DATABASE
    if given.numbers.random() < 0.5:
        database.unlink()
    disk.fill(given.numbers.choice(LEFT))
    command = arguments(apart.path.parent.name, given.shared, given.folder, NAME)
    output = run_command(*command, f"tracking.uri=sqlite:///{database}")
    assert output.status == 0, output.lines
    disk.make_room()
    sent = run_command("sync", apart.path, "--to", f"sqlite:///{database}")
    assert sent.status == 0, sent.lines
    require_same(given, apart.path.parent.name, apart, database)
    return f"sent later: {sent.lines[-1]}"


def require_same(given: Input, stage: str, run: RunFolder, database: Path) -> None:
    """Check that a run has the same results as an undisturbed run, in its folder and in the tracking database."""
    different = differences(RunFolder(given.shared / "runs" / stage / REFERENCE), run)
    missing = untracked(run, database)
    assert (different, missing) == ([], []), (different, missing)


FULL_DISKS = Fuzzer(
    "full_disks", (*OPERATIONS, JOURNAL, DATABASE), _run, count=14, full_count=56, seconds=300, prepare=prepare
)
