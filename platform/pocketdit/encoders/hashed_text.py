"""Two text encoders without weights, for runs that should not download anything.

They replace TinyCLIP and Gemma 3 and have the same interface. Each word of a caption becomes a fixed pseudorandom
vector, which is the same in every process and library version. The encoders have no knowledge of language: "crimson" is
as far from "red" as "seven" is. The network must learn the meaning of words from the training captions.
"""

import hashlib
import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from pocketdit.bounds import Tokens, VectorSize
from pocketdit.encoders.contract import TextTokens
from pocketdit.encoders.portable import PortableText
from pocketdit.encoders.word_tokens import Vector, WordTokenEncoder

_CACHE_SIZE = 1 << 16  # number of entries, limited because a large set of captions has too many phrases to cache
# Shares of a phrase token's variance that come from its 1-, 2-, and 3-grams.
_SHARES = (1 / 2, 1 / 3, 1 / 6)
_REACH = len(_SHARES) - 1
_OUTSIDE = ""


@lru_cache(maxsize=_CACHE_SIZE)
def hashed_vector(text: str, width: int) -> Vector:
    """Return a fixed vector of ``width`` signs (+1 or -1) that is nearly orthogonal to the vector of any other text.

    The signs are SHAKE-256 bits, because the output of a random generator may differ between library versions.
    """
    bits = np.frombuffer(hashlib.shake_256(text.encode()).digest(math.ceil(width / 8)), dtype=np.uint8)
    return np.unpackbits(bits, count=width).astype(np.float32) * 2 - 1


@lru_cache(maxsize=_CACHE_SIZE)
def phrase_vector(window: tuple[str, ...], width: int) -> Vector:
    """Return the vector of a word in context, which is a weighted sum over the n-grams that contain the word.

    Each n contributes a fixed share of the variance, divided evenly among its n-grams inside the caption.

    Args:
        window: Two preceding words, the word, and two following words. Positions outside the caption are empty strings.
        width: Size of the vector.
    """
    middle = len(window) // 2
    vector = np.zeros(width, dtype=np.float32)
    for order, share in enumerate(_SHARES, start=1):
        grams = [window[start : start + order] for start in range(middle - order + 1, middle + 1)]
        inside = [" ".join(gram) for gram in grams if _OUTSIDE not in gram]
        for gram in inside:
            vector += math.sqrt(share / len(inside)) * hashed_vector(gram, width)
    return vector


def hashed_words(words: Sequence[str], width: int, max_tokens: int) -> list[Vector]:
    """Return the vectors of the first ``max_tokens`` words, which do not depend on the context."""
    return [hashed_vector(word, width) for word in words[:max_tokens]]


def hashed_phrases(words: Sequence[str], width: int, max_tokens: int) -> list[Vector]:
    """Return the vectors of the first ``max_tokens`` words in context (see ``phrase_vector``)."""
    padding = [_OUTSIDE] * _REACH
    padded = [*padding, *words[:max_tokens], *padding]
    windows = (tuple(padded[i : i + 2 * _REACH + 1]) for i in range(len(padded) - 2 * _REACH))
    return [phrase_vector(window, width) for window in windows]


class WordEncoder(WordTokenEncoder):
    """Stand-in for TinyCLIP. The vector of a word does not depend on its context.

    Args:
        width: Size of the vectors, which must be even.
        max_tokens: Maximum number of words. Longer captions are truncated.
    """

    def __init__(self, width: VectorSize = 192, max_tokens: Tokens = 24) -> None:
        super().__init__(width, max_tokens)

    def encode(self, captions: Sequence[str]) -> TextTokens:
        """Encode B captions to embeddings (B, longest caption, width) that are zero where the mask is False."""
        return self.embed(captions, lambda words: hashed_words(words, self.width, self.max_tokens))

    def portable(self) -> PortableText:
        """Return a tokenizer that computes the word vectors, and a graph that only adds the positions."""
        return self.portable_vectors("hashed_words")


class PhraseEncoder(WordTokenEncoder):
    """Stand-in for Gemma 3. The vector of a word depends on its neighbors, which ties colors to shapes.

    The tokens for "circle" in "red circle" and "blue circle" share the vector of the word itself but differ in the
    vectors of the two-word and three-word phrases around it.

    Args:
        width: Size of the vectors, which must be even.
        max_tokens: Maximum number of words. Longer captions are truncated.
    """

    def __init__(self, width: VectorSize = 256, max_tokens: Tokens = 64) -> None:
        super().__init__(width, max_tokens)

    def encode(self, captions: Sequence[str]) -> TextTokens:
        """Encode B captions to embeddings (B, longest caption, width) that are zero where the mask is False."""
        return self.embed(captions, lambda words: hashed_phrases(words, self.width, self.max_tokens))

    def portable(self) -> PortableText:
        """Return a tokenizer that computes the word vectors, and a graph that only adds the positions."""
        return self.portable_vectors("hashed_phrases")
