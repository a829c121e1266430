"""Two text encoders without weights, for runs that download nothing.

They stand in for TinyCLIP and Gemma 3 behind the same contract: a caption's words become fixed pseudo-random
vectors, the same in every process and version. They know no language: "crimson" is as far from "red" as
"seven" is, and everything else has to be learned from the captions of the run.
"""

import hashlib
import math
import re
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pocketdit.encoders.contract import Frozen, TextTokens

Vector = NDArray[np.float32]
_WORD = re.compile(r"[^\W_]+")
_CACHED = 1 << 16  # entries; bounded because the phrases of a large set of captions are endless
# Shares of a phrase token's variance that its 1-, 2- and 3-grams have.
_SHARES = (1 / 2, 1 / 3, 1 / 6)
_REACH = len(_SHARES) - 1
_OUTSIDE = ""


def words(caption: str) -> list[str]:
    """Runs of letters and digits, lower-cased."""
    return _WORD.findall(caption.lower())


@lru_cache(maxsize=_CACHED)
def hashed_vector(text: str, width: int) -> Vector:
    """A fixed vector of ``width`` signs, +1 or -1: unit variance, nearly orthogonal to every other text's.

    Bits of SHAKE-256 rather than a random generator, whose stream may change with the library's version.
    """
    bits = np.frombuffer(hashlib.shake_256(text.encode()).digest(math.ceil(width / 8)), dtype=np.uint8)
    return np.unpackbits(bits, count=width).astype(np.float32) * 2 - 1


@lru_cache(maxsize=_CACHED)
def phrase_vector(window: tuple[str, ...], width: int) -> Vector:
    """The middle word of ``window`` (2 + 1 + 2 words) in its context: a mix of the n-grams that hold it.

    Each order has its share of the variance, divided evenly among the n-grams that lie within the caption.
    """
    middle = len(window) // 2
    mixed = np.zeros(width, dtype=np.float32)
    for order, share in enumerate(_SHARES, start=1):
        grams = [window[start : start + order] for start in range(middle - order + 1, middle + 1)]
        inside = [" ".join(gram) for gram in grams if _OUTSIDE not in gram]
        for gram in inside:
            mixed += math.sqrt(share / len(inside)) * hashed_vector(gram, width)
    return mixed


def sinusoidal_positions(length: int, width: int) -> Tensor:
    """(length, width): sines in the first half, cosines in the second (Vaswani et al. 2017, Sec. 3.5).

    Wavelengths run from 2 pi to 2 pi ``length`` words; longer ones would not change over a caption.
    """
    frequencies = length ** -torch.linspace(0, 1, width // 2)
    angles = torch.arange(length)[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class _HashedEncoder(Frozen):
    """Words to vectors by a pure function of the caption, plus a position code."""

    positions: Tensor

    def __init__(self, width: int, max_tokens: int) -> None:
        super().__init__()
        if width < 2 or width % 2 or max_tokens < 2:
            raise ValueError(f"width {width} must be even and max_tokens {max_tokens} at least 2")
        self.width = width
        self.max_tokens = max_tokens
        self.register_buffer("positions", sinusoidal_positions(max_tokens, width), persistent=False)
        self.freeze()

    def _encode(self, captions: Sequence[str], vectors: Callable[[list[str]], list[Vector]]) -> TextTokens:
        rows = [vectors(words(caption))[: self.max_tokens] for caption in captions]
        longest = max(map(len, rows), default=0)
        embeddings = np.zeros((len(captions), longest, self.width), dtype=np.float32)
        mask = np.zeros((len(captions), longest), dtype=bool)
        for row, tokens in enumerate(rows):
            if tokens:
                embeddings[row, : len(tokens)] = tokens
                mask[row, : len(tokens)] = True
        device = self.positions.device
        visible = torch.from_numpy(mask).to(device)
        placed = torch.from_numpy(embeddings).to(device) + self.positions[:longest]
        return TextTokens(placed * visible[..., None], visible)


class WordEncoder(_HashedEncoder):
    """Stand-in for TinyCLIP: every word has one vector, wherever it stands."""

    def __init__(self, width: int = 192, max_tokens: int = 24) -> None:
        super().__init__(width, max_tokens)

    def encode(self, captions: Sequence[str]) -> TextTokens:
        """B captions -> embeddings (B, longest, width) and mask; zeros where the mask is False."""
        return self._encode(captions, lambda tokens: [hashed_vector(word, self.width) for word in tokens])


class PhraseEncoder(_HashedEncoder):
    """Stand-in for Gemma 3: a word's vector depends on its neighbours, so that colours bind to shapes.

    The tokens of "circle" in "red circle" and "blue circle" share the word's own vector and differ in the
    vectors of the two- and three-word phrases.
    """

    def __init__(self, width: int = 256, max_tokens: int = 64) -> None:
        super().__init__(width, max_tokens)

    def encode(self, captions: Sequence[str]) -> TextTokens:
        """B captions -> embeddings (B, longest, width) and mask; zeros where the mask is False."""
        return self._encode(captions, self._phrases)

    def _phrases(self, tokens: list[str]) -> list[Vector]:
        edge = [_OUTSIDE] * _REACH
        padded = edge + tokens[: self.max_tokens] + edge
        windows = (tuple(padded[i : i + 2 * _REACH + 1]) for i in range(len(padded) - 2 * _REACH))
        return [phrase_vector(window, self.width) for window in windows]
