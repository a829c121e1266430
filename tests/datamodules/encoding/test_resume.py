"""Tests that the same command resumes a killed job, with a result that is byte-identical to an uninterrupted job's."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from datamodules.encoding import encode as encode_module
from datamodules.encoding.unfinished import ShardRecord, UnfinishedDataset
from datamodules.shards.schema import DatasetInfo
from pocketdit.commands.main import main
from tests.conftest import ROOT

Images = Callable[..., Path]
Write = Callable[..., Path]
OPTIONS = ("--batch-size", "3", "--base-size", "64")


def contents(dataset: Path) -> dict[str, bytes]:
    """Return the content of each file of a data set, except for locks and caches."""
    return {
        str(path.relative_to(dataset)): path.read_bytes()
        for path in sorted(dataset.rglob("*"))
        if path.suffix in (".tar", ".json")
    }


def finished(out: Path) -> int:
    """Return the number of finished shards of an unfinished data set."""
    return len(list((out / ".building" / "records").rglob("*.json")))


def encode(experiment: Path, source: Path, out: Path, *options: str) -> int:
    return main(["data", "encode", str(experiment), str(source), str(out), *OPTIONS, *options])


def test_job_that_is_killed_between_two_sizes_completes_the_other(
    images: Images,
    experiment: Write,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source, file, sizes = images(train=4, validation=1), experiment(), ("--base-size", "64,96")
    assert encode(file, source, tmp_path / "reference", *sizes) == 0
    with monkeypatch.context() as patch:
        finish = UnfinishedDataset.finish

        def finish_first(self: UnfinishedDataset, info: DatasetInfo) -> list[ShardRecord]:
            if self.out.name == "96":
                raise Interruption
            return finish(self, info)

        patch.setattr(UnfinishedDataset, "finish", finish_first)
        with pytest.raises(Interruption):
            encode(file, source, tmp_path / "out", *sizes)
    capsys.readouterr()
    assert encode(file, source, tmp_path / "out", *sizes) == 0
    assert "out/64: already complete" in capsys.readouterr().out
    for size in ("64", "96"):
        assert contents(tmp_path / "out" / size) == contents(tmp_path / "reference" / size)


class Interruption(BaseException):
    """Raised to end a job immediately, as a signal would."""


@contextmanager
def interrupted_after(images: int) -> Iterator[None]:
    class Line:
        def advance(self, done: int) -> None:
            if done >= images:
                raise Interruption

        def close(self) -> None: ...

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encode_module, "ProgressLine", lambda *_, **__: Line())
        yield


def test_interrupted_job_continues_with_the_missing_shards(
    images: Images, experiment: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, file, out = images(train=20, per_shard=5), experiment(), tmp_path / "out"
    assert encode(file, source, tmp_path / "reference") == 0
    written: list[str] = []
    write = UnfinishedDataset.write

    def record_write(self: UnfinishedDataset, split: str, shard: str, *rest: object) -> None:
        written.append(f"{split}/{shard}")
        write(self, split, shard, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(UnfinishedDataset, "write", record_write)
    for limit, shards in ((7, 1), (13, 2)):  # within the second and within the third shard
        with interrupted_after(limit), pytest.raises(Interruption):
            encode(file, source, out)
        assert finished(out) == shards
        assert not (out / "dataset.json").exists()
    assert encode(file, source, out) == 0
    assert written == [*(f"train/0000{i}.tar" for i in range(4)), "validation/00000.tar"]
    assert contents(out) == contents(tmp_path / "reference")


def test_other_settings_do_not_continue_a_job(
    images: Images, experiment: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, file, out = images(), experiment(), tmp_path / "out"
    with interrupted_after(7), pytest.raises(Interruption):
        encode(file, source, out)
    for options, message in (
        (["--batch-size", "4"], "a different batch_size: it was 3, now 4"),
        (["--dtype", "float32"], "a different autoencoder: stored_dtype: it was bfloat16, now float32"),
        (
            ["text_encoders.1.init_args.max_tokens=5"],
            "a different text_encoders: text: 1: init_args: max_tokens: it was 12",
        ),
    ):
        assert encode(file, source, out, *options) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert f"{out}: contains an unfinished data set with {message}" in error
    assert finished(out) == 1


def test_complete_data_set_is_replaced_only_on_request(
    images: Images, experiment: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, file, out = images(), experiment(), tmp_path / "out"
    assert encode(file, source, out) == 0
    before = contents(out)
    capsys.readouterr()
    assert encode(file, source, out) == 0
    assert f"{out}: already complete, with 20 train, 4 validation samples at base size 64" in capsys.readouterr().out
    assert encode(file, source, out, "--dtype", "float32") == 1
    assert "complete data set, encoded from other images or with other encoders" in capsys.readouterr().err
    assert contents(out) == before
    assert encode(file, source, out, "--dtype", "float32", "--overwrite") == 0
    assert contents(out) != before


def start(command: Sequence[str]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(command, cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL)


def run_and_kill(command: Sequence[str], out: Path, shards: int) -> None:
    """Start a command, and kill all of its processes once the given number of shards is finished."""
    process = start(command)
    try:
        deadline = time.monotonic() + 300
        while finished(out) < shards and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert shards <= finished(out)
    assert not (out / "dataset.json").exists()


def command_of(launcher: str) -> list[str]:
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return [sys.executable, *(torchrun if launcher == "torchrun" else []), "-m", "pocketdit", "data", "encode"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["flux", "qwen_image"])
@pytest.mark.parametrize("launcher", ["one process", "torchrun", "ray"])
def test_killed_job_resumes(images: Images, experiment: Write, tmp_path: Path, kind: str, launcher: str) -> None:
    source = images(train=1900, validation=100, per_shard=50, name="many")
    file, out = experiment(kind), tmp_path / "out"
    batches = ("--batch-size", "16")
    assert encode(file, source, tmp_path / "reference", *batches) == 0
    line = [*command_of(launcher), str(file), str(source), str(out), *OPTIONS, *batches]
    line += ["--ray"] if launcher == "ray" else []
    for shards in (3, 12):
        run_and_kill(line, out, shards)
    process = start(line)
    try:
        assert process.wait(600) == 0
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert contents(out) == contents(tmp_path / "reference")
