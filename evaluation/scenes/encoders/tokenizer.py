"""A word tokenizer for the small vocabulary of scene captions."""

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from datamodules.scenes.split import generate_scenes

_WORD = re.compile(r"[a-z]+")
_PADDING, _START, _UNKNOWN = 0, 1, 2
_FIRST_WORD = 3


def vocabulary() -> list[str]:
    """Return the words in the captions of 2000 training scenes, in alphabetical order."""
    texts = (text for sample in generate_scenes("train", 2000, seed=0) for text in sample.captions)
    return sorted({word for text in texts for word in _WORD.findall(text.lower())})


class WordTokenizer:
    """Maps lower-case words to tokens.

    Tokens 0 to 2 represent padding, the start of the text, and unknown words. The words of the vocabulary follow, and
    the last token represents the end of the text. The end token has the largest number because open_clip's text tower
    finds its position with ``argmax`` and uses the features at that position.

    Args:
        words: The vocabulary.
        length: Number of tokens per text.
    """

    def __init__(self, words: Sequence[str], length: int) -> None:
        self.words = list(words)
        self.length = length
        self.end = _FIRST_WORD + len(self.words)
        self.size = self.end + 1
        self._token_of = {word: _FIRST_WORD + i for i, word in enumerate(self.words)}

    def count_truncated(self, texts: Sequence[str]) -> int:
        """Return the number of texts with more words than fit between the start and the end."""
        return sum(len(_WORD.findall(text.lower())) > self.length - 2 for text in texts)

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Tokenize N texts as (N, length). Longer texts are truncated."""
        tokens = torch.full((len(texts), self.length), _PADDING)
        for row, text in zip(tokens, texts, strict=True):
            words = [self._token_of.get(word, _UNKNOWN) for word in _WORD.findall(text.lower())][: self.length - 2]
            row[: len(words) + 2] = torch.tensor([_START, *words, self.end])
        return tokens
