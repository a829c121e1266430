"""Tests for the index of a data set, its cache, and the shard reader."""

import io
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from datamodules.shards import index as index_module
from datamodules.shards.index import load_index, read_index, serialize_index
from datamodules.shards.reader import ShardReader
from datamodules.shards.schema import Sample, serialize_sample
from pocketdit.files import sha256_of


def test_each_row_reads_its_own_sample(make_dataset: Callable[..., Path]) -> None:
    index = load_index(make_dataset(), "train", "image")
    reader = ShardReader(index)
    samples = [reader.read_sample(row) for row in range(len(index))]
    assert [sample.id for sample in samples] == [f"train-{i}" for i in range(40)]
    assert [(sample.width, sample.height) for sample in samples] == list(zip(index.width, index.height, strict=True))
    assert reader.read_members(9).key == "00000009"


def test_rows_cover_their_shard_without_gaps(make_dataset: Callable[..., Path]) -> None:
    index = load_index(make_dataset(), "train", "image")
    for shard in range(len(index.shards)):
        rows = np.flatnonzero(index.shard == shard)
        assert index.offset[rows[0]] == 0
        assert np.array_equal(index.offset[rows[1:]], (index.offset + index.length)[rows[:-1]])


def test_cache_is_used_until_a_shard_changes(
    make_dataset: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_dataset()
    builds = Mock(wraps=index_module.build_index)
    monkeypatch.setattr(index_module, "build_index", builds)
    first, second = (load_index(path, "train", "image") for _ in range(2))
    assert builds.call_count == 0  # the writer of the data set also wrote the index
    assert first.digest == second.digest
    shard = path / "train" / "00003.tar"
    shard.write_bytes(shard.read_bytes()[:-600])
    load_index(path, "train", "image")
    assert builds.call_count == 1
    (path / "train" / "index.safetensors").write_bytes(b"half")
    assert load_index(path, "train", "image").digest == first.digest
    assert builds.call_count == 2


def test_index_is_built_again_after_a_change_that_keeps_the_size_and_the_time(
    make_dataset: Callable[..., Path],
) -> None:
    path = make_dataset()
    shard = path / "train" / "00003.tar"
    before = shard.stat()
    content = bytearray(shard.read_bytes())
    content[:512] = b"\xa5" * 512
    shard.write_bytes(content)
    os.utime(shard, ns=(before.st_atime_ns, before.st_mtime_ns))
    index = load_index(path, "train", "image")
    assert len(index) == 33
    assert str(index.skipped[0]).startswith("train/00003.tar: byte 0: ")


def test_index_stays_valid_in_a_copy_of_the_data_set(
    make_dataset: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_dataset()
    index = load_index(path, "train", "image")
    shutil.copytree(path / "train", tmp_path / "copy" / "train", ignore=shutil.ignore_patterns("*.safetensors"))
    shutil.copy(path / "train" / "index.safetensors", tmp_path / "copy" / "train")
    monkeypatch.setattr(index_module, "build_index", Mock(side_effect=AssertionError))
    assert load_index(tmp_path / "copy", "train", "image").digest == index.digest


@pytest.mark.parametrize(
    "change",
    [
        {"offset": -512},
        {"offset": 1 << 40},
        {"length": 1 << 30},
        {"shard": 99},
        {"width": 0},
    ],
)
def test_index_that_points_outside_of_its_shards_is_not_used(
    make_dataset: Callable[..., Path], change: dict[str, int]
) -> None:
    path = make_dataset() / "train" / "index.safetensors"
    opened = read_index(path, "image")
    assert opened is not None
    index, shards = opened
    ((name, value),) = change.items()
    getattr(index, name)[-1] = value
    path.write_bytes(serialize_index(index, shards))
    assert read_index(path, "image") is None


@pytest.mark.parametrize("name", ["../../x.tar", "a/b.tar", "x.png", "00000.tar"])
def test_index_with_names_that_are_not_shards_is_not_used(make_dataset: Callable[..., Path], name: str) -> None:
    path = make_dataset() / "train" / "index.safetensors"
    opened = read_index(path, "image")
    assert opened is not None
    index, shards = opened
    path.write_bytes(serialize_index(index, [*shards[:-1], shards[-1]._replace(name=name)]))
    assert read_index(path, "image") is None


def test_writer_records_the_hashes_of_the_shards(make_dataset: Callable[..., Path]) -> None:
    path = make_dataset() / "train"
    opened = read_index(path / "index.safetensors", "image")
    assert opened is not None
    assert [(shard.name, shard.sha256) for shard in opened[1]] == [
        (shard.name, sha256_of(shard)) for shard in sorted(path.glob("*.tar"))
    ]


def test_cache_stores_skipped_samples(make_dataset: Callable[..., Path]) -> None:
    path = make_dataset()
    shard = path / "train" / "00003.tar"
    shard.write_bytes(shard.read_bytes()[:2000])
    first, second = (load_index(path, "train", "image") for _ in range(2))
    assert first.skipped == second.skipped
    assert str(first.skipped[-1]).startswith("train/00003.tar: byte ")


def test_index_of_a_read_only_folder_is_not_cached(
    make_dataset: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("read-only")

    path = make_dataset()
    (path / "train" / "index.safetensors").unlink()
    monkeypatch.setattr(index_module, "write_atomically", refuse)
    assert len(load_index(path, "train", "image")) == 40
    assert not (path / "train" / "index.safetensors").exists()


def test_digest_does_not_depend_on_the_folder(make_dataset: Callable[..., Path]) -> None:
    first, second = (load_index(make_dataset(name=name), "train", "image") for name in ("a", "b"))
    other = load_index(make_dataset(train=39, name="c"), "train", "image")
    assert first.digest == second.digest != other.digest


def test_reader_limits_its_open_files(make_dataset: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datamodules.shards.reader._MAX_OPEN_FILES", 2)
    reader = ShardReader(load_index(make_dataset(), "train", "image"))
    rows = (0, 8, 15, 22, 0, 39)
    assert [reader.read_sample(row).id for row in rows] == [f"train-{row}" for row in rows]
    assert len(reader._files) == 2


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tar_files_of_other_programs_are_read(tmp_path: Path, make_sample: Callable[..., Sample], form: int) -> None:
    """These shards contain folders, long and non-ASCII names, and additional members."""
    folder = tmp_path / "train"
    folder.mkdir()
    long = "x" * (60 if form == tarfile.USTAR_FORMAT else 150)
    with tarfile.open(folder / "00000.tar", "w", format=form) as tar:
        directory = tarfile.TarInfo("d")
        directory.type = tarfile.DIRTYPE
        tar.addfile(directory)
        for number in range(3):
            members = {**serialize_sample(make_sample(number)), "txt": b"more"}
            for extension, content in members.items():
                info = tarfile.TarInfo(f"d/{long}é{number}.{extension}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    index = load_index(tmp_path, "train", "image")
    reader = ShardReader(index)
    assert index.skipped == ()
    assert [reader.read_sample(row).id for row in range(3)] == ["train-0", "train-1", "train-2"]
    assert reader.read_members(1).key == f"d/{long}é1"
    assert set(reader.read_members(2).members) == {"json", "png", "txt"}
