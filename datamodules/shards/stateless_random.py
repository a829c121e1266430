"""Stateless random numbers, which are pure functions of integers, so resuming does not require a generator's state.

The generator applies SplitMix64 (Steele, Lea, Flood 2014) to a tuple of integers. The numbers are the same on every
machine and with every version of NumPy.
"""

from enum import IntEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


class Purpose(IntEnum):
    """Purpose of a draw. It is the first integer, so that draws for different purposes are independent."""

    SHARDS = 0
    SAMPLES = 1
    BATCHES = 2
    CAPTION = 3
    CROP_X = 4
    CROP_Y = 5
    FLIP = 6
    CAPTION_LENGTH = 7


def random_bits(*integers: ArrayLike) -> NDArray[np.uint64]:
    """Return 64 random bits per tuple of integers. Arrays are broadcast."""
    with np.errstate(over="ignore"):
        state = np.zeros((), dtype=np.uint64)
        for integer in integers:
            state = _mix((state ^ np.asarray(integer, dtype=np.int64).astype(np.uint64)) + _GOLDEN)
    return state


def uniform(*integers: ArrayLike) -> NDArray[np.float64]:
    """Return a uniform number in [0, 1) per tuple of integers. Arrays are broadcast."""
    return np.asarray((random_bits(*integers) >> np.uint64(11)) * 2.0**-53, dtype=np.float64)


def permutation(length: int, *integers: int) -> NDArray[np.int64]:
    """Return a random permutation of 0 ... length - 1."""
    return np.argsort(random_bits(*integers, np.arange(length)), kind="stable")


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = (z ^ (z >> np.uint64(30))) * _MIX_1
    z = (z ^ (z >> np.uint64(27))) * _MIX_2
    return z ^ (z >> np.uint64(31))
