"""Tests for the validation of data sets. The tests for broken shards are in ``test_broken.py``."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from datamodules.shards.schema import LATENT_EXTENSION, Sample
from datamodules.shards.validate import validate_dataset
from datamodules.shards.writer import DatasetWriter


def _latent(shape: tuple[int, ...], value: float = 0.0, name: str = "latent") -> bytes:
    content: bytes = safetensors.numpy.save({name: np.full(shape, value, dtype=np.float16)})
    return content


def test_valid_data_set_has_no_problems(make_dataset: Callable[..., Path]) -> None:
    report = validate_dataset(make_dataset())
    assert report.problems == []
    assert report.samples == {"train": 40, "validation": 6}
    lines = str(report).splitlines()
    assert [line.split() for line in lines[-3:-1]] == [["train", "40"], ["validation", "6"]]
    assert lines[-1].endswith(": no problems")


def test_duplicates_and_overlapping_splits_are_reported(tmp_path: Path, make_sample: Callable[..., Sample]) -> None:
    with DatasetWriter(tmp_path / "d", kind="image", name="d", source="test") as writer:
        for split, number in (("train", 1), ("train", 1), ("train", 2), ("validation", 2)):
            writer.add(split, make_sample(number))
    assert validate_dataset(tmp_path / "d").problems == [
        "train/00000.tar: sample 00000001: id train-1 is also the id of train/00000.tar: sample 00000000",
        "train: 2 valid samples, but dataset.json records 3",
        "validation: id train-2 also occurs in train",
    ]


def test_key_in_two_shards_and_missing_shard_are_reported(make_dataset: Callable[..., Path]) -> None:
    path = make_dataset()
    (path / "train" / "00002.tar").write_bytes((path / "train" / "00001.tar").read_bytes())
    problems = validate_dataset(path).problems
    assert "train/00002.tar: sample 00000007: an earlier sample of the split has the same key" in problems
    (path / "train" / "00002.tar").unlink()
    assert validate_dataset(path).problems == ["train: 33 valid samples, but dataset.json records 40"]


@pytest.mark.parametrize(
    ("payload", "problem"),
    [
        (_latent((16, 12, 20)), None),
        (_latent((16, 20, 12)), "latent has shape (16, 20, 12), expected (16, 12, 20)"),
        (_latent((4, 12, 20)), "latent has shape (4, 12, 20), expected (16, 12, 20)"),
        (_latent((16, 12, 20), np.nan), "latent is not finite"),
        (_latent((16, 12, 20), name="z"), "the payload does not contain the tensor \"latent\", only ['z']"),
        (b"garbage", "latent cannot be decoded"),
        (
            safetensors.numpy.save({"latent": np.zeros((16, 12, 20), dtype=np.int64)}),
            "latent has type torch.int64, which is not a floating-point type",
        ),
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


def test_latents_without_the_factor_of_their_autoencoder_are_rejected(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "d", kind="latent", name="d", source="test", autoencoder={"class": "test"}) as writer:
        writer.add("train", Sample("a", ("one",), 160, 96, _latent((16, 12, 20)), LATENT_EXTENSION))
    (problem,) = validate_dataset(tmp_path / "d").problems
    assert 'does not record the "factor" of the latents' in problem


def test_change_that_leaves_every_sample_valid_is_reported(make_dataset: Callable[..., Path]) -> None:
    """A changed letter in a caption does not invalidate the sample, but it changes the fingerprint of the shards."""
    path = make_dataset()
    shard = next((path / "train").glob("*.tar"))
    content = bytearray(shard.read_bytes())
    letter = content.index(b'["', content.index(b'"captions"')) + 2
    content[letter] = ord("Z")
    shard.write_bytes(content)
    assert validate_dataset(path).problems == ["the fingerprint of the shards differs from the one in dataset.json"]
