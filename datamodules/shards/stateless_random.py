"""Random numbers as a pure function of what they are for, so that nothing has to be stored to resume.

SplitMix64 (Steele, Lea, Flood 2014) over a tuple of integers; the same on every machine and NumPy version.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)

# What a draw is for: the first number of its tuple.
SHARDS, SAMPLES, BATCHES, CAPTION, CROP_ACROSS, CROP_DOWN, FLIP, CAPTION_LENGTH = range(8)


def bits(*numbers: ArrayLike) -> NDArray[np.uint64]:
    """64 random bits for every tuple of integers (arrays broadcast)."""
    with np.errstate(over="ignore"):
        state = np.zeros((), dtype=np.uint64)
        for number in numbers:
            state = _finish((state ^ np.asarray(number, dtype=np.int64).astype(np.uint64)) + _GOLDEN)
    return state


def uniform(*numbers: ArrayLike) -> NDArray[np.float64]:
    """Uniform in [0, 1)."""
    return np.asarray((bits(*numbers) >> np.uint64(11)) * 2.0**-53, dtype=np.float64)


def permutation(length: int, *numbers: int) -> NDArray[np.int64]:
    """A random order of 0 ... length - 1."""
    return np.argsort(bits(*numbers, np.arange(length)), kind="stable")


def _finish(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = (z ^ (z >> np.uint64(30))) * _MIX_1
    z = (z ^ (z >> np.uint64(27))) * _MIX_2
    return z ^ (z >> np.uint64(31))
