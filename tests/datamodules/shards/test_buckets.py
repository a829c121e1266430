"""Tests for buckets and cropping."""

from pathlib import Path

import numpy as np
import pytest

from datamodules.imports.build import build_dataset
from datamodules.shards.buckets import Bucket, assign_buckets, bucket_list, cover_box, nearest_bucket
from datamodules.shards.module import ShardDataModule
from pocketdit.commands.main import main
from pocketdit.errors import ConfigError, UserError


@pytest.mark.parametrize(("base_size", "count"), [(64, 5), (128, 9), (256, 17), (512, 33), (1024, 45)])
def test_sides_are_multiples_of_32_and_areas_are_similar(base_size: int, count: int) -> None:
    buckets = bucket_list(base_size)
    assert len(buckets) == count
    assert Bucket(base_size, base_size) in buckets
    for width, height in buckets:
        assert width % 32 == height % 32 == 0
        assert 0.25 <= width / height <= 4
        assert 0.74 <= width * height / base_size**2 <= 1.26
        assert Bucket(height, width) in buckets


def test_sizes_of_scenes_are_buckets() -> None:
    buckets = bucket_list(128)
    for size in ((128, 128), (160, 96), (96, 160)):
        assert buckets[nearest_bucket(*size, buckets)] == size


@pytest.mark.parametrize(
    ("size", "bucket"),
    [
        ((4000, 3000), (160, 96)),
        ((1920, 1080), (160, 96)),
        ((300, 1000), (64, 224)),
        ((9000, 10), (256, 64)),
    ],
)
def test_nearest_bucket_is_nearest_in_log_aspect_ratio(size: tuple[int, int], bucket: tuple[int, int]) -> None:
    buckets = bucket_list(128)
    nearest = buckets[nearest_bucket(*size, buckets)]
    assert nearest == bucket
    ratio = np.log(size[0] / size[1])
    distances = [abs(ratio - np.log(w / h)) for w, h in buckets]
    assert np.isclose(min(distances), abs(ratio - np.log(nearest.width / nearest.height)))


def test_assigning_columns_agrees_with_assigning_single_images() -> None:
    rng = np.random.default_rng(0)
    width, height = rng.integers(20, 900, 50), rng.integers(20, 900, 50)
    buckets, bucket_of = assign_buckets(width, height, 256)
    assert bucket_of.tolist() == [nearest_bucket(w, h, buckets) for w, h in zip(width, height, strict=True)]


@pytest.mark.parametrize("size", [(500, 200), (200, 500), (64, 64), (161, 96), (160, 96)])
@pytest.mark.parametrize("position", [0.0, 0.5, 1.0])
def test_crop_is_inside_has_the_aspect_ratio_and_spans_a_side(size: tuple[int, int], position: float) -> None:
    left, top, right, bottom = cover_box(*size, Bucket(160, 96), position, position)
    assert 0 <= left < right <= size[0]
    assert 0 <= top < bottom <= size[1]
    assert np.isclose((right - left) / (bottom - top), 160 / 96)
    assert np.isclose(right - left, size[0]) or np.isclose(bottom - top, size[1])
    assert np.isclose(left, position * (size[0] - (right - left)))


@pytest.mark.parametrize("base_size", [100, 0, -32, 2**20])
def test_base_size_is_bounded_everywhere(tmp_path: Path, base_size: int, capsys: pytest.CaptureFixture[str]) -> None:
    message = "must be a multiple of 32 up to 65536"
    with pytest.raises(ConfigError, match=f"base_size: {message}, not {base_size}"):
        ShardDataModule("nowhere", batch_size=4, base_size=base_size)
    with pytest.raises(UserError, match=f"base size {base_size}: {message}"):
        build_dataset(tmp_path, tmp_path / "out", base_size=base_size)
    assert main(["data", "build", str(tmp_path), str(tmp_path / "out"), f"--base-size={base_size}"]) == 2
    assert f"--base-size {base_size}: {message}" in capsys.readouterr().err
