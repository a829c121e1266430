"""Tests that replacing a data set loses neither the old nor the new one if a process is killed or a disk is full."""

import json
import multiprocessing
import os
import resource
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from datamodules.shards.index import load_index
from datamodules.shards.module import ShardDataModule
from datamodules.shards.reader import ShardReader
from datamodules.shards.replacement import hold_write_lock
from datamodules.shards.schema import Sample, read_info
from datamodules.shards.stats import describe_dataset
from datamodules.shards.validate import validate_dataset
from datamodules.shards.writer import DatasetWriter
from evaluation.metrics.image_source import open_source
from pocketdit.commands.main import main
from pocketdit.errors import RunError

RENAMES = 8  # number of renames in a replacement; after the first rename, the new data set is valid


def run_in_child(target: Callable[[], None]) -> int | None:
    process = multiprocessing.get_context("fork").Process(target=target)
    process.start()
    process.join()
    return process.exitcode


def overwrite(path: Path, samples: list[Sample]) -> None:
    with DatasetWriter(path, kind="image", name="new", source="test", overwrite=True) as writer:
        for sample in samples:
            writer.add("train", sample)


def overwrite_and_die(path: Path, sample: Sample, step: int) -> None:
    """Overwrite a data set in a child process, which exits immediately before its ``step``-th rename."""

    def run() -> None:
        numbers, rename = count(1), Path.rename

        def rename_or_die(self: Path, target: Path) -> Path:
            if next(numbers) == step:
                os._exit(9)
            return rename(self, target)

        Path.rename = rename_or_die  # type: ignore[method-assign, assignment]  # only in the child process
        overwrite(path, [sample])
        os._exit(0)

    assert run_in_child(run) == (9 if step <= RENAMES else 0)


def train_ids(path: Path) -> list[str]:
    reader = ShardReader(load_index(path, "train", read_info(path).kind))
    return [reader.read_sample(row).id for row in range(len(reader.index))]


@pytest.mark.parametrize("step", range(1, RENAMES + 2))
def test_killed_replacement_is_finished_by_the_next_reader(
    make_dataset: Callable[..., Path], make_sample: Callable[..., Sample], step: int
) -> None:
    path = make_dataset(train=3, validation=1)
    overwrite_and_die(path, make_sample(7), step)
    assert train_ids(path) == (["train-0", "train-1", "train-2"] if step == 1 else ["train-7"])
    assert validate_dataset(path).problems == []
    overwrite(path, [make_sample(8)])
    assert train_ids(path) == ["train-8"]
    assert sorted(p.name for p in path.iterdir()) == [".lock", "dataset.json", "train", "validation"]


@pytest.mark.parametrize(
    "read",
    [
        lambda path: ShardDataModule.require_available({"path": str(path)}),
        lambda path: ShardDataModule(str(path), batch_size=1).setup(),
        open_source,
        validate_dataset,
        describe_dataset,
    ],
)
def test_every_reader_finishes_a_killed_replacement(
    make_dataset: Callable[..., Path], make_sample: Callable[..., Sample], read: Callable[[Path], object]
) -> None:
    path = make_dataset(train=3, validation=1)
    overwrite_and_die(path, make_sample(7), step=5)
    assert not (path / "dataset.json").exists()
    read(path)
    assert json.loads((path / "dataset.json").read_text())["samples"] == {"train": 1, "validation": 0}


@pytest.mark.parametrize("step", range(2, 6))  # fewer renames, because no previous data set exists
def test_killed_first_build_is_finished_by_the_same_command(
    tmp_path: Path, make_sample: Callable[..., Sample], capsys: pytest.CaptureFixture[str], step: int
) -> None:
    path = tmp_path / "d"
    overwrite_and_die(path, make_sample(7), step)
    assert main(["data", "build", "scenes", str(path), "--if-missing"]) == 0
    assert "already exists" in capsys.readouterr().out
    assert train_ids(path) == ["train-7"]


def test_reader_does_not_interfere_with_a_replacement(
    make_dataset: Callable[..., Path], make_sample: Callable[..., Sample]
) -> None:
    path = make_dataset()
    overwrite_and_die(path, make_sample(7), step=4)
    with hold_write_lock(path), pytest.raises(RunError, match="another process is writing to this folder"):
        read_info(path)
    assert train_ids(path) == ["train-7"]


def test_disk_that_becomes_full_leaves_the_previous_data_set(
    make_dataset: Callable[..., Path], make_sample: Callable[..., Sample], tmp_path: Path
) -> None:
    path = make_dataset(train=2, validation=1)

    def run() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))  # simulate a full disk with a limit on file sizes
        try:
            overwrite(path, [make_sample(number) for number in range(100)])
        except RunError as error:
            (tmp_path / "message").write_text(str(error))

    run_in_child(run)
    assert (tmp_path / "message").read_text() == f"{path}: cannot be written (File too large)"
    assert train_ids(path) == ["train-0", "train-1"]
    assert validate_dataset(path).problems == []


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_folder_that_cannot_be_created_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(RunError, match=f"{name}: cannot be written"):
        DatasetWriter(tmp_path / name, kind="image", name="x", source="x")
