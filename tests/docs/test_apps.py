"""Tests that docs/apps.md describes exactly what an app must compute."""

import hashlib
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pocketdit.diffusion.samplers import SAMPLERS, Velocity, uniform_times
from pocketdit.encoders.hashed_text import PhraseEncoder, WordEncoder
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "apps.md").read_text()
PROGRAMS = re.findall(r"^```python\n((?:.*\n)*?)```$", PAGE, re.M)
PROMPT = "A red circle, left of 2 blue squares"
WORDS = ["a", "red", "circle", "left", "of", "2", "blue", "squares"]


def run_program(beginning: str) -> dict[str, Any]:
    """Run the page's Python program that starts with ``beginning``, and return its global variables."""
    (program,) = [text for text in PROGRAMS if text.startswith(beginning)]
    names: dict[str, Any] = {}
    exec(program, names)
    return names


def swirl(x: Tensor, time: Tensor) -> Tensor:
    """Return a velocity that is a nonlinear function of x and time."""
    return torch.sin(3 * x) + x.flip(-1) * time[:, None] ** 2


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m"])
@pytest.mark.parametrize(("steps", "shift"), [(1, 1.0), (4, 3.0), (24, 3.0), (28, 1.0)])
def test_the_loop_of_the_page_is_the_sampler(sampler: str, steps: int, shift: float) -> None:
    sample: Callable[..., Tensor] = run_program("from math import log")["sample"]
    x = torch.randn(2, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    times = uniform_times(steps, shift)
    velocity: Velocity = swirl
    expected = SAMPLERS[sampler](velocity, x, times)
    torch.testing.assert_close(sample(lambda x, t: swirl(x, torch.full((2,), t)), x, times, sampler), expected)


def test_the_program_about_text_encoders_runs(capsys: pytest.CaptureFixture[str]) -> None:
    tokens = run_program("from pocketdit.encoders.hashed_text")["tokens"]
    assert tokens.mask.tolist() == [[True, True, True]]
    assert "tensor" in capsys.readouterr().out


def described_vector(text: str, width: int) -> np.ndarray:
    digest = hashlib.shake_256(text.encode()).digest(width // 8)
    return np.array([1.0 if byte >> (7 - bit) & 1 else -1.0 for byte in digest for bit in range(8)])


def test_positions_are_encoded_as_the_page_says() -> None:
    encoder = WordEncoder(width=64, max_tokens=5)
    frequencies = [5 ** (-k / (64 / 2 - 1)) for k in range(32)]
    expected = [[f(p * frequency) for f in (math.sin, math.cos) for frequency in frequencies] for p in range(5)]
    np.testing.assert_allclose(encoder.positions.numpy(), np.array(expected), atol=1e-6)


def test_words_are_encoded_as_the_page_says() -> None:
    encoder = WordEncoder(width=64, max_tokens=5)
    tokens = encoder.encode([PROMPT])
    expected = np.stack([described_vector(word, 64) for word in WORDS[:5]])
    np.testing.assert_allclose((tokens.embeddings[0] - encoder.positions).numpy(), expected, atol=1e-6)


def test_phrases_are_encoded_as_the_page_says() -> None:
    encoder = PhraseEncoder(width=64, max_tokens=5)
    tokens = encoder.encode([PROMPT])
    words, expected = WORDS[:5], np.zeros((5, 64))
    for at in range(5):
        for length, share in ((1, 1 / 2), (2, 1 / 3), (3, 1 / 6)):
            starts = [start for start in range(len(words) - length + 1) if start <= at < start + length]
            for start in starts:
                weight = math.sqrt(share / len(starts))
                expected[at] += weight * described_vector(" ".join(words[start : start + length]), 64)
    np.testing.assert_allclose((tokens.embeddings[0] - encoder.positions).numpy(), expected, atol=1e-5)
