"""Tests that a killed build resumes and produces the same bytes, whichever file it was about to write."""

import functools
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from datamodules.filters.limits import Filters
from datamodules.imports import build as build_module
from datamodules.imports import unit_files
from datamodules.imports.build import build_dataset
from datamodules.shards import writer as writer_module
from datamodules.shards.validate import validate_dataset
from datamodules.shards.writer import DatasetWriter
from pocketdit.errors import RunError
from pocketdit.files import write_atomically
from tests.conftest import ROOT
from tests.datamodules.imports.layout_sources import image_bytes, write_tar

TARS, SAMPLES = 4, 5


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_module, "DatasetWriter", functools.partial(DatasetWriter, samples_per_shard=3))


def write_tars(source: Path, tars: int = TARS, samples: int = SAMPLES) -> None:
    """Write tars, one with a broken sample. The last sample of each tar equals the first sample of the next tar."""
    for shard in range(tars):
        members: dict[str, bytes] = {}
        for i in range(samples):
            number = shard * (samples - 1) + i
            content = b"broken" if (shard, i) == (1, 2) else image_bytes(number)
            members |= {f"{i:04d}.png": content, f"{i:04d}.txt": f"picture {number}".encode()}
        write_tar(source / f"{shard:03d}.tar", members)


def build(source: Path, out: Path, **options: Any) -> None:
    filters = Filters(duplicates="exact")
    build_dataset(source, out, filters=filters, validation_fraction=0.3, progress=False, **options)


def contents(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def run_and_die(source: Path, out: Path, number: int) -> bool:
    """Build in a forked process that is killed before it writes file ``number``, and return whether it was killed."""

    def run() -> None:
        numbers = count(1)

        def write_or_die(path: Path, content: Any) -> Path:
            if next(numbers) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return write_atomically(path, content)

        for module in (unit_files, writer_module):
            module.write_atomically = write_or_die  # type: ignore[attr-defined]  # only in the child process
        build(source, out)
        os._exit(0)

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


@pytest.mark.usefixtures("small_shards")
def test_build_that_is_killed_at_any_file_resumes_with_equal_bytes(tmp_path: Path, source: Path) -> None:
    write_tars(source)
    build(source, tmp_path / "whole")
    expected = contents(tmp_path / "whole")
    assert validate_dataset(tmp_path / "whole").problems == []
    assert sum(name.endswith(".tar") for name in expected) >= 6
    for number in count(1):
        out = tmp_path / f"killed {number}"
        if not run_and_die(source, out, number):
            break
        assert not (out / "dataset.json").exists()
        run_and_die(source, out, 2)  # the resumed build is killed again, before its second file
        build(source, out)
        assert contents(out) == expected, number
    assert number > 2 * TARS + 6


@pytest.mark.usefixtures("small_shards")
def test_finished_units_and_shards_are_not_made_again(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tars(source)
    assert run_and_die(source, tmp_path / "out", 12)
    units = set(contents(tmp_path / "out"))
    written: list[str] = []

    def note(path: Path, content: Any) -> Path:
        written.append(path.name)
        return write_atomically(path, content)

    monkeypatch.setattr(unit_files, "write_atomically", note)
    finished = {Path(name).name for name in units if name.endswith(".jsonl")}
    assert finished
    build(source, tmp_path / "out")
    assert not finished & set(written)


@pytest.mark.usefixtures("small_shards")
def test_images_are_not_stored_twice_for_long(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While shards are written, the temporary image files of only a few units exist at the same time."""
    write_tars(source, tars=10)
    left: list[int] = []

    def note(path: Path, content: Any) -> Path:
        left.append(len(list((tmp_path / "out").rglob("*.images"))))
        return write_atomically(path, content)

    monkeypatch.setattr(writer_module, "write_atomically", note)
    build(source, tmp_path / "out")
    assert max(left) <= 4


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("change", ["source", "setting"])
def test_build_of_something_else_starts_over(tmp_path: Path, source: Path, change: str) -> None:
    write_tars(source)
    assert run_and_die(source, tmp_path / "out", 12)
    options = {}
    if change == "source":
        write_tar(source / "000.tar", {"x.png": image_bytes(77), "x.txt": b"new"})
    else:
        options = {"max_side": 16}
    for out in ("out", "whole"):
        build(source, tmp_path / out, **options)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_number_of_processes_does_not_change_the_bytes(tmp_path: Path, source: Path) -> None:
    write_tars(source)
    for workers in (1, 3):
        build(source, tmp_path / str(workers), workers=workers)
    assert contents(tmp_path / "1") == contents(tmp_path / "3")


def test_killed_command_leaves_no_process_behind_and_resumes(tmp_path: Path, source: Path) -> None:
    write_tars(source, tars=24, samples=40)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "pocketdit", "data", "build", str(source), str(out), "--workers", "2"]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'platform'}:{ROOT}"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not list(out.rglob("*.jsonl")):
            assert process.poll() is None
            time.sleep(0.01)
        children = _descendants(process.pid)
    finally:
        process.kill()
        process.wait()
    assert len(children) >= 2
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{child}").exists() for child in children):
        assert time.monotonic() < deadline, "a worker process must not outlive the command"
        time.sleep(0.05)
    assert not (out / "dataset.json").exists()
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    build_dataset(source, tmp_path / "whole", progress=False)
    assert contents(out) == contents(tmp_path / "whole")
    assert "1 skipped" in result.stdout


def _descendants(pid: int) -> list[int]:
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return children + [grandchild for child in children for grandchild in _descendants(child)]


def test_process_that_dies_is_reported_and_the_build_resumes(tmp_path: Path, source: Path) -> None:
    write_tars(source, tars=8)
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from datamodules.imports import pool\n"
        "from datamodules.imports.build import build_dataset\n"
        "if __name__ != '__main__':\n"  # the following lines run in the worker processes
        "    def die(*_): os.kill(os.getpid(), signal.SIGKILL)\n"
        "    pool._finish = die\n"
        "else:\n"
        f"    build_dataset(Path({str(source)!r}), Path({str(tmp_path / 'out')!r}), workers=2, progress=False)\n"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'platform'}:{ROOT}"}
    result = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True)
    assert "a process was killed, perhaps because memory ran out; run the command again to resume" in result.stderr
    build_dataset(source, tmp_path / "out", workers=2, progress=False)
    assert validate_dataset(tmp_path / "out").problems == []


def test_second_build_into_the_folder_is_refused(tmp_path: Path, source: Path) -> None:
    write_tars(source)
    with DatasetWriter(tmp_path / "out", kind="image", name="x", source="x") as writer:
        with pytest.raises(RunError, match="another process is writing to this folder"):
            build(source, tmp_path / "out")
        writer.imported = None
