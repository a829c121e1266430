"""Gaussian noise that any programming language can reproduce bit by bit.

torch draws noise with a generator that apps do not have. The generator in this file uses only operations whose results
are the same everywhere: 32-bit integer operations, and the float32 operations +, -, *, / and sqrt, whose results
IEEE 754 requires to be rounded to nearest. No product is fused with a sum. Logarithm, sine and cosine are computed with
polynomials, because the results of mathematical libraries differ in their last bits.

1. Threefry-2x32 with 20 rounds (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") encrypts the counter
   (j, 0) for pair j = 0, 1, 2, ... The key consists of the lower and the upper 32 bits of the seed.
2. The two encrypted words yield two normally distributed numbers (Box and Muller 1958), elements 2j and 2j + 1 of the
   noise in the order (channel, row, column). If the noise has an odd number of elements, the last number is dropped.

docs/apps.md lists the operations in order, and the manifest of a bundle contains known answers.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

NAME = "threefry2x32-20/box-muller-f32"
"""Name of the algorithm in the manifest of a bundle."""

Words = NDArray[np.uint32]
Floats = NDArray[np.float32]

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = np.uint32(0x1BD11BDA)

# Coefficients from the highest power to the lowest, rounded to float32.
LOG_COEFFICIENTS = tuple(np.float32(2 / n) for n in (11, 9, 7, 5, 3, 1))
"""ln m = s (2 + 2/3 s^2 + 2/5 s^4 + ...) with s = (m - 1) / (m + 1)."""
SIN_COEFFICIENTS = tuple(np.float32((-1) ** k / math.factorial(2 * k + 1)) for k in (4, 3, 2, 1, 0))
COS_COEFFICIENTS = tuple(np.float32((-1) ** k / math.factorial(2 * k)) for k in (5, 4, 3, 2, 1, 0))
LN2 = np.float32(math.log(2))
HALF_PI = np.float32(math.pi / 2)
_SQRT_HALF_BITS = np.uint32(0x3F3504F3)
"""Bits of sqrt(1/2) in float32."""


def random_words(seed: int, pairs: int) -> tuple[Words, Words]:
    """Return the two words of each pair, which are the encrypted counters (0, 0), (1, 0), (2, 0) and so on."""
    low, high = np.uint32(seed & 0xFFFFFFFF), np.uint32(seed >> 32)
    counters = np.arange(pairs, dtype=np.uint32)
    return encrypt((low, high, low ^ high ^ _PARITY), counters, np.zeros_like(counters))


def encrypt(keys: tuple[np.uint32, ...], x: Words, y: Words) -> tuple[Words, Words]:
    """Encrypt blocks (x, y) with 20 rounds of Threefry-2x32. The third key is the parity of the other two."""
    x, y = x + keys[0], y + keys[1]
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            x = x + y
            y = (y << np.uint32(rotation)) | (y >> np.uint32(32 - rotation))
            y = y ^ x
        x = x + keys[(group + 1) % 3]
        y = y + keys[(group + 2) % 3] + np.uint32(group + 1)
    return x, y


def normal_pairs(x: Words, y: Words) -> tuple[Floats, Floats]:
    """Convert pairs of uniform random words to pairs of normally distributed numbers."""
    uniform = ((x >> np.uint32(8)) + np.uint32(1)).astype(np.float32) * np.float32(2.0**-24)  # in (0, 1]
    radius = np.sqrt(np.float32(-2) * _log(uniform))
    fraction = ((y >> np.uint32(6)) & np.uint32(0xFFFFFF)).astype(np.float32) * np.float32(2.0**-24)
    angle = (fraction - np.float32(0.5)) * HALF_PI  # in [-pi/4, pi/4)
    square = angle * angle
    sine, cosine = angle * _polynomial(square, SIN_COEFFICIENTS), _polynomial(square, COS_COEFFICIENTS)
    quadrant = y >> np.uint32(30)
    across, along = np.where(quadrant & 1, -sine, cosine), np.where(quadrant & 1, cosine, sine)
    sign = np.where(quadrant & 2, np.float32(-1), np.float32(1))
    return radius * (sign * across), radius * (sign * along)


def portable_noise(seed: int, shape: tuple[int, ...]) -> Floats:
    """Draw noise that depends only on the seed and on the number of elements.

    Args:
        seed: An integer from 0 to 2^64 - 1.
        shape: Shape of the noise.
    """
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed={seed}: must be from 0 to 2^64 - 1")
    count = math.prod(shape)
    words = random_words(seed, (count + 1) // 2)
    return np.stack(normal_pairs(*words), axis=1).reshape(-1)[:count].reshape(shape)


def known_answers(count: int = 8) -> list[dict[str, Any]]:
    """Return a manifest's known answers: the first words and normal numbers of two seeds, as hexadecimal bits."""
    return [
        {
            "seed": str(seed),
            "words": [f"{word:08x}" for word in np.stack(random_words(seed, count // 2), axis=1).reshape(-1)],
            "normal_bits": [f"{bits:08x}" for bits in portable_noise(seed, (count,)).view(np.uint32)],
        }
        for seed in (0, 0x0123456789ABCDEF)
    ]


def _log(value: Floats) -> Floats:
    """Compute the natural logarithm of positive numbers that are not subnormal."""
    bits = value.view(np.uint32)
    offset = bits - _SQRT_HALF_BITS  # may wrap around
    exponent = offset.view(np.int32) >> np.int32(23)
    mantissa = ((offset & np.uint32(0x7FFFFF)) + _SQRT_HALF_BITS).view(np.float32)  # in [sqrt(1/2), sqrt(2))
    s = (mantissa - np.float32(1)) / (mantissa + np.float32(1))
    series = s * _polynomial(s * s, LOG_COEFFICIENTS)
    return exponent.astype(np.float32) * LN2 + series


def _polynomial(x: Floats, coefficients: tuple[np.float32, ...]) -> Floats:
    """Evaluate a polynomial with Horner's scheme, rounding each product before the sum."""
    value = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        value = value * x + coefficient
    return value
