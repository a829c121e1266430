"""Base class of the text encoders with one token per word: word splitting, padding, and positions."""

import re
import unicodedata
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pocketdit.encoders.contract import FrozenModule, Reading, TextTokens
from pocketdit.encoders.portable import AddPositions, PortableText

Vector = NDArray[np.float32]
_WORD = re.compile(r"[^\W_]+")


def split_words(caption: str) -> list[str]:
    """Split a caption into lowercase words of letters and digits."""
    return _WORD.findall(caption.lower())


def sinusoidal_positions(length: int, width: int) -> Tensor:
    """Compute the position embedding (length, width) of Vaswani et al. 2017, Sec. 3.5, with sines before cosines.

    Wavelengths range from 2 pi to 2 pi ``length`` words. Longer waves would hardly change within a caption.
    """
    frequencies = length ** -torch.linspace(0, 1, width // 2)
    angles = torch.arange(length)[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class WordTokenEncoder(FrozenModule):
    """Adds a position embedding to word vectors, which depend only on the caption."""

    positions: Tensor

    def __init__(self, width: int, max_tokens: int) -> None:
        super().__init__()
        if width < 2 or width % 2 or max_tokens < 2:
            raise ValueError(f"width must be even and max_tokens at least 2, not {width} and {max_tokens}")
        self.width = width
        self.max_tokens = max_tokens
        self.register_buffer("positions", sinusoidal_positions(max_tokens, width), persistent=False)
        self.freeze()

    def read(self, captions: Sequence[str]) -> list[Reading]:
        """Return what the encoder sees of each caption. Symbols, such as emoji, are not words and have no token."""
        readings = []
        for caption in captions:
            words = split_words(caption)
            symbols = [char for char in caption if unicodedata.category(char).startswith("S")]
            unknown = tuple(dict.fromkeys(symbols))
            readings.append(Reading(len(words), min(len(words), self.max_tokens), unknown, tuple(dict.fromkeys(words))))
        return readings

    def embed(self, captions: Sequence[str], vectors: Callable[[list[str]], list[Vector]]) -> TextTokens:
        """Embed B captions, given a function that maps the words of a caption to vectors of ``width`` elements."""
        rows = [vectors(split_words(caption))[: self.max_tokens] for caption in captions]
        longest = max(map(len, rows), default=0)
        embeddings = np.zeros((len(captions), longest, self.width), dtype=np.float32)
        mask = np.zeros((len(captions), longest), dtype=bool)
        for row, tokens in enumerate(rows):
            if tokens:
                embeddings[row, : len(tokens)] = tokens
                mask[row, : len(tokens)] = True
        device = self.positions.device
        visible = torch.from_numpy(mask).to(device)
        embedded = torch.from_numpy(embeddings).to(device) + self.positions[:longest]
        return TextTokens(embedded * visible[..., None], visible)

    def portable_vectors(self, kind: str) -> PortableText:
        """Return the portable form of an encoder whose tokenizer computes the word vectors."""
        inputs = {
            "vectors": torch.ones(1, self.max_tokens, self.width),
            "mask": (torch.arange(self.max_tokens)[None] < self.max_tokens // 2).float(),
        }
        return PortableText({"kind": kind, "width": self.width}, AddPositions(self.positions), inputs)
