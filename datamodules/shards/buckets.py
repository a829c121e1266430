"""Aspect ratio buckets. All images in a batch have the same size, and each image is cropped to its nearest bucket."""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

SIDE_MULTIPLE = 32  # pixels: a factor of 8 in the autoencoder, 2 in the patches, and 2 in the middle stage
_MAX_ASPECT_RATIO = 4.0

BucketShape = Literal["aspect", "square"]


class Bucket(NamedTuple):
    """Image size in pixels."""

    width: int
    height: int


@lru_cache
def bucket_list(base_size: int, shape: BucketShape = "aspect") -> tuple[Bucket, ...]:
    """Return image sizes of about ``base_size**2`` pixels, with aspect ratios from 1:4 to 4:1 or only 1:1.

    One side ranges from half to twice the base size in steps of 1/16 of the base size (at least 32). The other side is
    the nearest multiple of 32. Both orientations are included. There are 9 buckets for a base size of 128, and 45 for
    1024.

    Raises:
        ValueError: ``base_size`` is not a positive multiple of 32.
    """
    if base_size < SIDE_MULTIPLE or base_size % SIDE_MULTIPLE:
        raise ValueError(f"base size {base_size} is not a multiple of {SIDE_MULTIPLE}")
    if shape == "square":
        return (Bucket(base_size, base_size),)
    step = max(SIDE_MULTIPLE, base_size // 16 // SIDE_MULTIPLE * SIDE_MULTIPLE)
    buckets = set()
    for side in range(step, int(_MAX_ASPECT_RATIO * base_size) + 1, step):
        other = max(1, round(base_size**2 / side / SIDE_MULTIPLE)) * SIDE_MULTIPLE
        if 1 / _MAX_ASPECT_RATIO <= side / other <= _MAX_ASPECT_RATIO:
            buckets |= {Bucket(side, other), Bucket(other, side)}
    return tuple(sorted(buckets))


def nearest_bucket(width: int, height: int, buckets: Sequence[Bucket]) -> int:
    """Return the index of the bucket with the nearest log aspect ratio. Ties are broken by the nearest log area."""

    def distance(bucket: Bucket) -> tuple[float, float]:
        ratio = math.log(width / height * bucket.height / bucket.width)
        area = math.log(width * height / (bucket.width * bucket.height))
        return round(abs(ratio), 9), abs(area)

    return min(range(len(buckets)), key=lambda i: distance(buckets[i]))


def assign_buckets(
    width: NDArray[np.integer], height: NDArray[np.integer], base_size: int, shape: BucketShape = "aspect"
) -> tuple[tuple[Bucket, ...], NDArray[np.int32]]:
    """Return the buckets of a base size, and the index of each row's bucket."""
    sizes, size_of = exact_buckets(width, height)
    buckets = bucket_list(base_size, shape)
    return buckets, np.array([nearest_bucket(*size, buckets) for size in sizes], dtype=np.int32)[size_of]


def exact_buckets(
    width: NDArray[np.integer], height: NDArray[np.integer]
) -> tuple[tuple[Bucket, ...], NDArray[np.int32]]:
    """Return a bucket for each distinct size, and the index of each row's bucket.

    Latents use these buckets, because they cannot be cropped.
    """
    sizes, size_of = np.unique(np.stack([width, height], axis=1), axis=0, return_inverse=True)
    return tuple(Bucket(int(w), int(h)) for w, h in sizes), size_of.reshape(-1).astype(np.int32)


def cover_box(
    width: int, height: int, bucket: Bucket, x: float = 0.5, y: float = 0.5
) -> tuple[float, float, float, float]:
    """Return the largest crop (left, top, right, bottom) of an image with the bucket's aspect ratio.

    Args:
        width: Width of the image.
        height: Height of the image.
        bucket: The size to which the crop will be resized.
        x: Horizontal position of the crop in [0, 1]; 0.5 is the center.
        y: Vertical position of the crop in [0, 1].
    """
    scale = min(width / bucket.width, height / bucket.height)
    if math.isclose(scale * bucket.width, width) and math.isclose(scale * bucket.height, height):
        return (0.0, 0.0, float(width), float(height))
    crop_width, crop_height = min(width, scale * bucket.width), min(height, scale * bucket.height)
    left, top = (width - crop_width) * x, (height - crop_height) * y
    return (left, top, left + crop_width, top + crop_height)
