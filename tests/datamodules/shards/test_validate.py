"""validate on whole data sets (broken shards: test_broken)."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from datamodules.shards.schema import LATENT_EXTENSION, Sample
from datamodules.shards.validate import validate_dataset
from datamodules.shards.writer import DatasetWriter


def _latent(shape: tuple[int, ...], value: float = 0.0, name: str = "latent") -> bytes:
    return safetensors.numpy.save({name: np.full(shape, value, dtype=np.float16)})


def test_a_good_data_set_has_no_problem(make_dataset: Callable[..., Path]) -> None:
    report = validate_dataset(make_dataset())
    assert report.problems == []
    assert str(report).endswith("40 good train, 6 good validation samples, no problem")


def test_duplicates_and_overlap_are_named(tmp_path: Path, make_sample: Callable[..., Sample]) -> None:
    with DatasetWriter(tmp_path / "d", kind="image", name="d", source="test") as writer:
        for split, number in (("train", 1), ("train", 1), ("train", 2), ("validation", 2)):
            writer.add(split, make_sample(number))
    assert validate_dataset(tmp_path / "d").problems == [
        "train/00000.tar: sample 00000001: id train-1 is that of train/00000.tar: sample 00000000 too",
        "train: 2 good samples, dataset.json says 3",
        "validation: id train-2 is in train too",
    ]


def test_a_key_in_two_shards_and_a_missing_shard_are_named(make_dataset: Callable[..., Path]) -> None:
    path = make_dataset()
    (path / "train" / "00002.tar").write_bytes((path / "train" / "00001.tar").read_bytes())
    problems = validate_dataset(path).problems
    assert "train/00002.tar: sample 00000007: its key is in the split before" in problems
    (path / "train" / "00002.tar").unlink()
    assert validate_dataset(path).problems == ["train: 33 good samples, dataset.json says 40"]


@pytest.mark.parametrize(
    ("payload", "problem"),
    [
        (_latent((16, 12, 20)), None),
        (_latent((16, 20, 12)), "latent has shape (16, 20, 12), expected (16, 12, 20)"),
        (_latent((4, 12, 20)), "latent has shape (4, 12, 20), expected (16, 12, 20)"),
        (_latent((16, 12, 20), np.nan), "latent is not finite"),
        (_latent((16, 12, 20), name="z"), "no tensor \"latent\" (found ['z'])"),
        (b"garbage", "latent does not decode"),
    ],
)
def test_latents_are_checked(tmp_path: Path, payload: bytes, problem: str | None) -> None:
    autoencoder = {"class": "test", "channels": 16, "factor": 8}
    with DatasetWriter(tmp_path / "d", kind="latent", name="d", source="test", autoencoder=autoencoder) as writer:
        writer.add("train", Sample("a", ("one",), 160, 96, payload, LATENT_EXTENSION))
    problems = validate_dataset(tmp_path / "d").problems
    if problem is None:
        assert problems == []
    else:
        assert problems[0].startswith(f"train/00000.tar: sample 00000000: {problem}")
        assert "train: no usable sample" in problems


def test_a_change_that_every_reader_takes_is_found(make_dataset: Callable[..., Path]) -> None:
    """One letter of one caption: the sample is as good as before, but no longer the one that was written."""
    path = make_dataset()
    shard = next((path / "train").glob("*.tar"))
    content = bytearray(shard.read_bytes())
    letter = content.index(b'["', content.index(b'"captions"')) + 2
    content[letter] = ord("Z")
    shard.write_bytes(content)
    assert validate_dataset(path).problems == ["the shards are not byte for byte what dataset.json was written for"]
