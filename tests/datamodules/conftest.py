"""Fixtures that write tiny data sets."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datamodules.shards.schema import Sample
from datamodules.shards.writer import DatasetWriter

SIZES = ((128, 128), (160, 96), (96, 160), (150, 100))


def _sample(number: int, size: tuple[int, int] | None = None, extension: str = "png", split: str = "train") -> Sample:
    width, height = size or SIZES[number % len(SIZES)]
    pixels = np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize((width, height)).save(file, format="jpeg" if extension == "jpg" else extension)
    captions = (f"short {number}", f"long one {number}", f"long two {number}")
    return Sample(f"{split}-{number}", captions, width, height, file.getvalue(), extension)


@pytest.fixture(name="make_sample")
def fixture_make_sample() -> Callable[..., Sample]:
    return _sample


@pytest.fixture(name="make_dataset")
def fixture_make_dataset(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a data set and returns its folder."""

    def make(train: int = 40, validation: int = 6, samples_per_shard: int = 7, name: str = "tiny") -> Path:
        out = tmp_path / name
        with DatasetWriter(out, kind="image", name=name, source="test", samples_per_shard=samples_per_shard) as writer:
            for number in range(train):
                writer.add("train", _sample(number))
            for number in range(validation):
                writer.add("validation", _sample(number, split="validation"))
        return out

    return make
