"""Tests that portable noise matches Threefry's published output, is normal, and is the same on every machine."""

import hashlib
import math

import numpy as np
import pytest
import torch

from pocketdit.diffusion import portable_noise
from pocketdit.diffusion.portable_noise import encrypt, known_answers, normal_pairs, random_words
from pocketdit.sampling import initial_noise

DIGEST = "8309633328571ecb8f089794e95ba50f0d9eb57c2493f85881eadf0034ee4b14"
"""SHA-256 of the noise of shape (3, 5, 7) for the largest seed."""


@pytest.mark.parametrize(
    ("key", "counter", "output"),
    [  # known answers for threefry2x32 with 20 rounds, published with Random123
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_words_are_those_of_threefry(key: tuple[int, int], counter: tuple[int, int], output: tuple[int, int]) -> None:
    low, high = np.uint32(key[0]), np.uint32(key[1])
    x, y = (np.array([word], dtype=np.uint32) for word in counter)
    words = encrypt((low, high, low ^ high ^ np.uint32(0x1BD11BDA)), x, y)
    assert tuple(int(word[0]) for word in words) == output


def test_seed_is_the_key() -> None:
    first = [int(word[0]) for word in random_words(0x99BA4EFE_6B200159, 1)]
    low, high = np.uint32(0x6B200159), np.uint32(0x99BA4EFE)
    zero = np.zeros(1, dtype=np.uint32)
    assert first == [int(w[0]) for w in encrypt((low, high, low ^ high ^ np.uint32(0x1BD11BDA)), zero, zero)]


def test_numbers_are_those_of_box_and_muller() -> None:
    x, y = random_words(3, 5000)
    actual = normal_pairs(x, y)
    radius = np.sqrt(-2 * np.log(((x >> 8) + 1.0) / 2**24))
    angle = ((y >> 30) + ((y >> 6) & 0xFFFFFF) / 2**24 - 0.5) * math.pi / 2
    for numbers, expected in zip(actual, (radius * np.cos(angle), radius * np.sin(angle)), strict=True):
        np.testing.assert_allclose(numbers, expected, atol=1e-6)


def test_extreme_words_give_finite_numbers() -> None:
    words = np.array([0, 0xFF, 0x100, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF], dtype=np.uint32)
    x, y = (part.reshape(-1) for part in np.meshgrid(words, words))
    for numbers in normal_pairs(x, y):
        assert np.isfinite(numbers).all()
        assert np.abs(numbers).max() <= math.sqrt(2 * 24 * math.log(2)) + 1e-5


def test_noise_is_normal() -> None:
    from scipy.stats import kstest

    noise = portable_noise.portable_noise(1, (100_000,))
    assert kstest(noise, "norm").pvalue > 0.01
    assert abs(float(np.corrcoef(noise[::2], noise[1::2])[0, 1])) < 0.02


def test_bits_do_not_change() -> None:
    noise = portable_noise.portable_noise(2**64 - 1, (3, 5, 7)).astype("<f4")
    assert hashlib.sha256(noise.tobytes()).hexdigest() == DIGEST
    first, second = known_answers(4)
    assert first == {
        "seed": "0",
        "words": ["6b200159", "99ba4efe", "508efb2c", "c0de3f32"],
        "normal_bits": ["bfa6f5c5", "3e4f4275", "bf86ab90", "bf8c88f6"],
    }
    assert int(second["seed"]) > 2**32  # the seed is large enough to use both halves of the key


def test_odd_sizes_are_prefixes_of_even_ones() -> None:
    np.testing.assert_array_equal(
        portable_noise.portable_noise(5, (3, 3)).reshape(-1), portable_noise.portable_noise(5, (10,))[:9]
    )


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_seeds_out_of_range_are_refused(seed: int) -> None:
    with pytest.raises(ValueError, match=r"must be from 0 to 2\^64 - 1"):
        portable_noise.portable_noise(seed, (2,))


def test_sampling_uses_it_for_every_prompt() -> None:
    noise = initial_noise(["a", "b"], 7, 4, 2, 3, "portable")
    expected = torch.from_numpy(portable_noise.portable_noise(7, (4, 2, 3)))
    assert torch.equal(noise, torch.stack([expected, expected]))
    assert not torch.equal(initial_noise(["a"], 7, 4, 2, 3), noise[:1])
