"""A tokenizer for the few words that drawn scenes are told in."""

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from datamodules.scenes.split import generate_scenes

_WORD = re.compile(r"[a-z]+")
_PADDING, _START, _UNKNOWN = 0, 1, 2
_FIRST = 3


def vocabulary() -> list[str]:
    """Every word of the training captions, in alphabetical order."""
    texts = (text for sample in generate_scenes("train", 2000, seed=0) for text in sample.captions)
    return sorted({word for text in texts for word in _WORD.findall(text.lower())})


class WordTokenizer:
    """Lower-case words to numbers: 0 padding, 1 start, 2 a word it does not know, then the words, last the end.

    The end has the greatest number of all because open_clip's text tower reads its features there (``argmax``).
    """

    def __init__(self, words: Sequence[str], length: int) -> None:
        self.words = list(words)
        self.length = length
        self.end = _FIRST + len(self.words)
        self.size = self.end + 1
        self._numbers = {word: _FIRST + i for i, word in enumerate(self.words)}

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """N texts -> numbers (N, length); what is too long loses its last words."""
        rows = torch.full((len(texts), self.length), _PADDING)
        for row, text in zip(rows, texts, strict=True):
            inner = [self._numbers.get(word, _UNKNOWN) for word in _WORD.findall(text.lower())][: self.length - 2]
            row[: len(inner) + 2] = torch.tensor([_START, *inner, self.end])
        return rows
