"""Tests for data sets that are read as square crops instead of in buckets of several aspect ratios."""

import io
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from datamodules.shards.index import load_index
from datamodules.shards.module import ShardDataModule
from datamodules.shards.reader import ShardReader
from pocketdit.errors import ConfigError, RunError
from tests.datamodules.latents import build_latents

SQUARE: dict[str, Any] = {"batch_size": 4, "workers": 0, "buckets": "square"}


def test_square_buckets_crop_every_image_to_a_square(make_dataset: Callable[..., Path]) -> None:
    path = make_dataset()
    module = ShardDataModule(str(path), base_size=64, **SQUARE)
    batches = list(islice(module.train_dataloader(), module.batches_per_epoch))
    assert {tuple(batch["images"].shape[1:]) for batch in batches} == {(3, 64, 64)}
    assert sum(len(batch["ids"]) for batch in batches) == 40
    reader = ShardReader(load_index(path, "train", "image"))
    for row, image in zip(batches[0]["ids"].tolist(), batches[0]["images"], strict=True):
        stored = Image.open(io.BytesIO(reader.read_sample(row).payload))
        side, (width, height) = min(stored.size), stored.size
        left, top = (width - side) / 2, (height - side) / 2
        expected = stored.resize(
            (64, 64), Image.Resampling.LANCZOS, box=(left, top, left + side, top + side), reducing_gap=3.0
        )
        assert np.array_equal(image.permute(1, 2, 0).numpy(), np.asarray(expected))


def test_square_buckets_reject_latents_of_other_shapes(tmp_path: Path) -> None:
    build_latents(tmp_path / "aspect", 12, 4)
    build_latents(tmp_path / "square", 12, 4, buckets="square")
    batch = next(iter(ShardDataModule(str(tmp_path / "square"), **SQUARE).train_dataloader()))
    assert batch["latents"].shape[2:] == (16, 16)
    with pytest.raises(
        ConfigError, match=r"data.init_args.buckets: is square, .* not square; set it to aspect, or .* --buckets square"
    ):
        ShardDataModule(str(tmp_path / "aspect"), **SQUARE).setup()


def test_checkpoint_records_the_shape_of_the_buckets(make_dataset: Callable[..., Path]) -> None:
    path = str(make_dataset())
    state = ShardDataModule(path, batch_size=4, workers=0).state_dict()
    older = {key: value for key, value in state.items() if key != "buckets"}
    ShardDataModule(path, batch_size=4, workers=0).load_state_dict(older)
    for saved in (state, older):
        with pytest.raises(RunError, match="buckets was aspect, now square"):
            ShardDataModule(path, **SQUARE).load_state_dict(saved)


def test_unknown_shape_is_rejected() -> None:
    with pytest.raises(ConfigError, match="buckets: 'round' is neither 'aspect' nor 'square'"):
        ShardDataModule("nowhere", batch_size=4, buckets="round")  # type: ignore[arg-type]
