"""Aspect buckets: every batch has one picture size, and pictures are cut to the nearest one."""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SIDE_MULTIPLE = 32  # pixels: autoencoder 8, patch 2, middle stage 2
_WIDEST = 4.0


class Bucket(NamedTuple):
    """Picture size in pixels."""

    width: int
    height: int


@lru_cache
def bucket_list(base_size: int) -> tuple[Bucket, ...]:
    """Sizes of about ``base_size**2`` pixels, sides multiples of 32, aspect ratios 1:4 to 4:1.

    One side runs from half to twice the base size (in steps of a sixteenth of it, at least 32), the other one
    is the nearest multiple of 32; upright and lying. 128 gives 9 buckets, 1024 gives 45.
    """
    if base_size < SIDE_MULTIPLE or base_size % SIDE_MULTIPLE:
        raise ValueError(f"base size {base_size} is no multiple of {SIDE_MULTIPLE}")
    step = max(SIDE_MULTIPLE, base_size // 16 // SIDE_MULTIPLE * SIDE_MULTIPLE)
    found = set()
    for side in range(step, int(_WIDEST * base_size) + 1, step):
        other = max(1, round(base_size**2 / side / SIDE_MULTIPLE)) * SIDE_MULTIPLE
        if 1 / _WIDEST <= side / other <= _WIDEST:
            found |= {Bucket(side, other), Bucket(other, side)}
    return tuple(sorted(found))


def nearest_bucket(width: int, height: int, buckets: Sequence[Bucket]) -> int:
    """Number of the bucket of the nearest aspect ratio (in its logarithm), then of the nearest area."""

    def distance(bucket: Bucket) -> tuple[float, float]:
        ratio = math.log(width / height * bucket.height / bucket.width)
        area = math.log(width * height / (bucket.width * bucket.height))
        return round(abs(ratio), 9), abs(area)

    return min(range(len(buckets)), key=lambda i: distance(buckets[i]))


def assign_buckets(
    width: NDArray[np.integer], height: NDArray[np.integer], base_size: int
) -> tuple[tuple[Bucket, ...], NDArray[np.int32]]:
    """The bucket list of a base size, and the number in it of every row."""
    sizes, which = exact_buckets(width, height)
    buckets = bucket_list(base_size)
    return buckets, np.array([nearest_bucket(*size, buckets) for size in sizes], dtype=np.int32)[which]


def exact_buckets(
    width: NDArray[np.integer], height: NDArray[np.integer]
) -> tuple[tuple[Bucket, ...], NDArray[np.int32]]:
    """The sizes that occur, as buckets, and the number of each row's: for latents, which cannot be cut."""
    sizes, which = np.unique(np.stack([width, height], axis=1), axis=0, return_inverse=True)
    return tuple(Bucket(int(w), int(h)) for w, h in sizes), which.reshape(-1).astype(np.int32)


def cover_box(
    width: int, height: int, bucket: Bucket, across: float = 0.5, down: float = 0.5
) -> tuple[float, float, float, float]:
    """The largest part (left, top, right, bottom) of a picture that has the bucket's aspect ratio.

    ``across`` and ``down`` in [0, 1] place it; 0.5 is the centre.
    """
    scale = min(width / bucket.width, height / bucket.height)
    if math.isclose(scale * bucket.width, width) and math.isclose(scale * bucket.height, height):
        return (0.0, 0.0, float(width), float(height))
    cut_width, cut_height = min(width, scale * bucket.width), min(height, scale * bucket.height)
    left, top = (width - cut_width) * across, (height - cut_height) * down
    return (left, top, left + cut_width, top + cut_height)
