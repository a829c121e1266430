"""Writing: bytes, completeness, and reading by WebDataset itself."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import webdataset

from datamodules.shards.index import load_index
from datamodules.shards.schema import Sample, parse_sample, read_info, serialize_sample
from datamodules.shards.writer import DatasetWriter
from pocketdit.errors import UserError


def _bytes(path: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(path)): p.read_bytes()
        for p in path.rglob("*")
        if p.suffix == ".tar" or p.name == "dataset.json"
    }


def _abandon(out: Path, sample: Sample, **options: object) -> None:
    """A build that stops half way."""
    with (
        pytest.raises(KeyboardInterrupt),
        DatasetWriter(out, kind="image", name="x", source="x", samples_per_shard=2, **options) as writer,
    ):
        for _ in range(5):
            writer.add("train", sample)
        raise KeyboardInterrupt


def test_a_sample_survives_serialising(make_sample: Callable[..., Sample]) -> None:
    sample = Sample("é", ("a", "b"), 128, 128, make_sample(0).payload, "png", {"objects": [1.5]}, seed=3)
    assert parse_sample(serialize_sample(sample), "image") == sample


def test_the_same_samples_give_the_same_bytes(make_dataset: Callable[..., Path]) -> None:
    first, second = make_dataset(), make_dataset(name="again")
    assert read_info(first).fingerprint == read_info(second).fingerprint
    one, two = _bytes(first), _bytes(second)
    assert one.keys() == two.keys()
    assert all(one[name] == two[name] for name in one if name.endswith(".tar"))
    assert read_info(make_dataset(train=39, name="less")).fingerprint != read_info(first).fingerprint


def test_webdataset_reads_the_shards(make_dataset: Callable[..., Path]) -> None:
    path = make_dataset()
    shards = [str(shard) for shard in sorted((path / "train").glob("*.tar"))]
    assert len(shards) == 6
    samples = list(webdataset.WebDataset(shards, shardshuffle=False).decode("pil"))
    assert [sample["json"]["id"] for sample in samples] == [f"train-{i}" for i in range(40)]
    assert all(sample["png"].size == (sample["json"]["width"], sample["json"]["height"]) for sample in samples)


def test_an_abandoned_build_is_no_data_set_and_starts_over(
    tmp_path: Path, make_dataset: Callable[..., Path], make_sample: Callable[..., Sample]
) -> None:
    out = tmp_path / "tiny"
    _abandon(out, make_sample(0))
    assert (out / "train" / "00001.tar").exists()
    with pytest.raises(UserError, match=r"no dataset.json, so no complete data set"):
        read_info(out)
    assert _bytes(make_dataset()).keys() == _bytes(make_dataset(name="other")).keys()
    assert not (out / ".building").exists()


def test_a_complete_data_set_is_kept_unless_told(
    make_dataset: Callable[..., Path], make_sample: Callable[..., Sample]
) -> None:
    path = make_dataset()
    before = _bytes(path)
    with pytest.raises(UserError, match="holds a complete data set already"):
        DatasetWriter(path, kind="image", name="x", source="x")
    assert _bytes(path) == before
    with DatasetWriter(path, kind="image", name="x", source="x", overwrite=True) as writer:
        writer.add("train", make_sample(0))
    assert json.loads((path / "dataset.json").read_text())["samples"] == {"train": 1, "validation": 0}
    assert len(load_index(path, "train", "image")) == 1


def test_folders_of_somebody_else_are_never_removed(tmp_path: Path) -> None:
    mine = tmp_path / "train" / "mine.tar"
    mine.parent.mkdir()
    mine.write_bytes(b"dear")
    for overwrite in (False, True):
        with pytest.raises(UserError, match="that is no data set; choose another folder"):
            DatasetWriter(tmp_path, kind="image", name="x", source="x", overwrite=overwrite)
    assert mine.read_bytes() == b"dear"
