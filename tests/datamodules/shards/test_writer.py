"""Tests for writing data sets: reproducible bytes, completeness, and compatibility with WebDataset."""

import json
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import webdataset

from datamodules.shards.index import load_index
from datamodules.shards.reader import ShardReader
from datamodules.shards.schema import SPLITS, Sample, parse_sample, read_info, serialize_sample
from datamodules.shards.validate import validate_dataset
from datamodules.shards.writer import DatasetWriter
from pocketdit.errors import RunError, UserError


def _bytes(path: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(path)): p.read_bytes()
        for p in path.rglob("*")
        if p.suffix == ".tar" or p.name == "dataset.json"
    }


def _interrupt_build(out: Path, sample: Sample) -> None:
    """Start a build, and raise ``KeyboardInterrupt`` before it is complete."""
    with DatasetWriter(out, kind="image", name="x", source="x", samples_per_shard=2) as writer:
        for _ in range(5):
            writer.add("train", sample)
        raise KeyboardInterrupt


def test_sample_survives_serialization(make_sample: Callable[..., Sample]) -> None:
    sample = Sample("é", ("a", "b"), 128, 128, make_sample(0).payload, "png", {"objects": [1.5]}, seed=3)
    assert parse_sample(serialize_sample(sample), "image") == sample


def test_equal_samples_give_equal_bytes(make_dataset: Callable[..., Path]) -> None:
    first, second = make_dataset(), make_dataset(name="again")
    assert read_info(first).fingerprint == read_info(second).fingerprint
    first_files, second_files = _bytes(first), _bytes(second)
    assert first_files.keys() == second_files.keys()
    assert all(first_files[name] == second_files[name] for name in first_files if name.endswith(".tar"))
    assert read_info(make_dataset(train=39, name="less")).fingerprint != read_info(first).fingerprint


def test_webdataset_reads_the_shards(make_dataset: Callable[..., Path]) -> None:
    path = make_dataset()
    shards = [str(shard) for shard in sorted((path / "train").glob("*.tar"))]
    assert len(shards) == 6
    samples = list(webdataset.WebDataset(shards, shardshuffle=False).decode("pil"))
    assert [sample["json"]["id"] for sample in samples] == [f"train-{i}" for i in range(40)]
    assert all(sample["png"].size == (sample["json"]["width"], sample["json"]["height"]) for sample in samples)


def test_interrupted_build_is_not_a_data_set_and_starts_over(
    tmp_path: Path, make_dataset: Callable[..., Path], make_sample: Callable[..., Sample]
) -> None:
    out = tmp_path / "tiny"
    with pytest.raises(KeyboardInterrupt):
        _interrupt_build(out, make_sample(0))
    assert not list(out.rglob("*.tar"))
    with pytest.raises(UserError, match=r"not a complete data set \(no dataset.json\)"):
        read_info(out)
    assert _bytes(make_dataset()).keys() == _bytes(make_dataset(name="other")).keys()
    assert not (out / ".building").exists()


def test_complete_data_set_is_replaced_only_with_overwrite(
    make_dataset: Callable[..., Path], make_sample: Callable[..., Sample]
) -> None:
    path = make_dataset()
    before = _bytes(path)
    with pytest.raises(UserError, match="already contains a complete data set"):
        DatasetWriter(path, kind="image", name="x", source="x")
    assert _bytes(path) == before
    with DatasetWriter(path, kind="image", name="x", source="x", overwrite=True) as writer:
        writer.add("train", make_sample(0))
    assert json.loads((path / "dataset.json").read_text())["samples"] == {"train": 1, "validation": 0}
    assert len(load_index(path, "train", "image")) == 1


def _read_all(path: Path) -> list[str]:
    """Return the first caption of each sample of both splits."""
    captions = []
    for split in SPLITS:
        reader = ShardReader(load_index(path, split, read_info(path).kind))
        captions += [reader.read_sample(row).captions[0] for row in range(len(reader.index))]
    return captions


@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError, SystemExit])
def test_failed_overwrite_leaves_the_previous_data_set_unchanged(
    make_dataset: Callable[..., Path], make_sample: Callable[..., Sample], failure: type[BaseException]
) -> None:
    path = make_dataset()
    before, captions = _bytes(path), _read_all(path)

    def overwrite() -> None:
        with DatasetWriter(path, kind="image", name="x", source="x", samples_per_shard=2, overwrite=True) as writer:
            for _ in range(5):
                writer.add("train", make_sample(0))
            assert _bytes(path).items() >= before.items()
            assert _read_all(path) == captions
            raise failure

    with pytest.raises(failure):
        overwrite()
    assert _bytes(path) == before
    assert validate_dataset(path).problems == []


def test_killed_overwrite_leaves_the_previous_data_set_and_the_next_build_starts_over(
    make_dataset: Callable[..., Path], make_sample: Callable[..., Sample]
) -> None:
    path = make_dataset()

    def overwrite() -> None:
        with DatasetWriter(path, kind="image", name="x", source="x", samples_per_shard=2, overwrite=True) as writer:
            for _ in range(5):
                writer.add("train", make_sample(0))
            os._exit(9)

    process = multiprocessing.get_context("fork").Process(target=overwrite)
    process.start()
    process.join()
    assert process.exitcode == 9
    assert validate_dataset(path).problems == []
    assert len(_read_all(path)) == 46
    with DatasetWriter(path, kind="image", name="x", source="x", overwrite=True) as writer:
        writer.add("train", make_sample(1))
    assert _read_all(path) == ["short 1"]
    assert sorted(p.name for p in path.iterdir() if p.name != ".lock") == ["dataset.json", "train", "validation"]


def test_second_build_into_the_same_folder_is_refused_and_the_first_one_succeeds(
    tmp_path: Path, make_sample: Callable[..., Sample]
) -> None:
    options: dict[str, Any] = {"kind": "image", "name": "x", "source": "x", "overwrite": True}
    for _ in range(2):  # the first pass writes to an empty folder, the second overwrites the data set
        with DatasetWriter(tmp_path / "d", samples_per_shard=1, **options) as writer:
            writer.add("train", make_sample(0))
            with pytest.raises(RunError, match="another process is writing to this folder"):
                DatasetWriter(tmp_path / "d", **options)
            writer.add("train", make_sample(1))
        assert _read_all(tmp_path / "d") == ["short 0", "short 1"]
        assert validate_dataset(tmp_path / "d").problems == []


def test_folders_not_created_by_a_writer_are_never_removed(tmp_path: Path) -> None:
    foreign = tmp_path / "train" / "foreign.tar"
    foreign.parent.mkdir()
    foreign.write_bytes(b"content")
    for overwrite in (False, True):
        with pytest.raises(UserError, match="that is not part of a data set; choose another folder"):
            DatasetWriter(tmp_path, kind="image", name="x", source="x", overwrite=overwrite)
    assert foreign.read_bytes() == b"content"
