"""A text encoder that knows the meaning of words: the word vectors of WordLlama.

The PyPI package ``wordllama`` (MIT license) contains 32,000 token vectors, distilled from the token embeddings of large
language models, so nothing is downloaded. Words with related meanings have similar vectors, so a network that has
learned "dog" can also react to "puppy".
"""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pocketdit.bounds import Between, Tokens
from pocketdit.encoders.contract import Reading, TextTokens
from pocketdit.encoders.portable import PortableText
from pocketdit.encoders.word_tokens import Vector, WordTokenEncoder
from pocketdit.errors import RunError

VECTORS = "weights/l2_supercat_256.safetensors"
TOKENIZER = "tokenizers/l2_supercat_tokenizer_config.json"
VECTOR_SIZE = 256
MAX_PIECES = 16
"""Number of tokens per word in the portable form. Any further tokens of a word are left out of its mean."""
_MIN_SCALE = 1e-6


class WordVectorEncoder(WordTokenEncoder):
    """Encodes each word as its own vector and the vectors of its neighbors.

    The vector of a word is the mean of the vectors of its tokens, scaled to a mean square of 1. The embedding of a word
    concatenates the vectors of the ``context`` preceding words, of the word, and of the ``context`` following words,
    which ties "two" to "apples". Beyond the ends of the caption, vectors are zero.

    Args:
        context: Number of neighbors on each side. The width is 256 * (2 * ``context`` + 1).
        max_tokens: Maximum number of words. Longer captions are truncated.

    Raises:
        RunError: WordLlama is not installed, or its files cannot be read.
    """

    vectors: Tensor

    def __init__(self, context: Annotated[int, Between(0, 16)] = 1, max_tokens: Tokens = 80) -> None:
        super().__init__(VECTOR_SIZE * (2 * context + 1), max_tokens)
        from tokenizers import Tokenizer

        folder = package_folder()
        try:
            self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
            vectors = load_file(folder / VECTORS)["embedding.weight"]
        except (OSError, SafetensorError, KeyError) as error:
            raise RunError(f"text_encoders: WordLlama's files in {folder} cannot be read ({error})") from error
        except Exception as error:  # the tokenizers package raises no more specific class
            raise RunError(f"text_encoders: WordLlama's tokenizer in {folder} cannot be read ({error})") from error
        self.register_buffer("vectors", vectors, persistent=False)  # part of the encoder's identity
        self._context = context
        self._known: dict[str, Vector] = {}

    def read(self, captions: Sequence[str]) -> list[Reading]:
        """Return what the encoder sees of each caption.

        ``Reading.words`` is empty, because the network need not learn the meaning of each word in training.
        """
        return [reading._replace(words=()) for reading in super().read(captions)]

    def encode(self, captions: Sequence[str]) -> TextTokens:
        """Encode B captions to embeddings (B, longest caption, width) that are zero where the mask is False."""
        return self.embed(captions, self._in_context)

    def word_vector(self, word: str) -> Vector:
        """Return the vector of a word without its context, with a mean square of 1."""
        vector = self._known.get(word)
        if vector is None:
            ids = self._tokenizer.encode(word, add_special_tokens=False).ids
            mean = self.vectors[ids].float().mean(dim=0)
            scaled = mean / mean.square().mean().sqrt().clamp_min(_MIN_SCALE)
            vector = self._known[word] = scaled.cpu().numpy()
        return vector

    def portable(self) -> PortableText:
        """Return the tokenizer with its file, and a graph that takes the token IDs of every word."""
        module = WordVectorGraph(self.vectors, self.positions, self._context)
        mask = (torch.arange(self.max_tokens)[None] < self.max_tokens // 2).float()
        ids = torch.arange(self.max_tokens * MAX_PIECES, dtype=torch.int32).reshape(1, self.max_tokens, MAX_PIECES)
        weights = mask[..., None].expand(-1, -1, MAX_PIECES) / MAX_PIECES
        tokenizer = {"kind": "word_pieces", "pieces": MAX_PIECES, "file": "tokenizer.json"}
        files = {"tokenizer.json": (package_folder() / TOKENIZER).read_bytes()}
        return PortableText(tokenizer, module, {"ids": ids, "weights": weights.contiguous(), "mask": mask}, files)

    def _in_context(self, words: list[str]) -> list[Vector]:
        seen = words[: self.max_tokens]
        outside = [np.zeros(VECTOR_SIZE, dtype=np.float32)] * self._context
        padded = [*outside, *map(self.word_vector, seen), *outside]
        return [np.concatenate(padded[i : i + 2 * self._context + 1]) for i in range(len(seen))]


class WordVectorGraph(nn.Module):
    """The graph of a ``WordVectorEncoder`` for one prompt.

    Args:
        vectors: Vectors of all tokens.
        positions: Position embeddings (L, width).
        context: Number of neighbors on each side.
    """

    vectors: Tensor
    positions: Tensor

    def __init__(self, vectors: Tensor, positions: Tensor, context: int) -> None:
        super().__init__()
        self.context = context
        self.register_buffer("vectors", vectors.float())
        self.register_buffer("positions", positions[None].clone())

    def forward(self, ids: Tensor, weights: Tensor, mask: Tensor) -> Tensor:
        """Embed the words of a prompt.

        Args:
            ids: Token IDs of each word (1, L, ``MAX_PIECES``).
            weights: Weight of each token in the mean of its word, in the same shape. Unused places have weight 0.
            mask: Mask (1, L): 1 for a word and 0 for padding.

        Returns:
            Embeddings (1, L, width).
        """
        mean = (F.embedding(ids, self.vectors) * weights[..., None]).sum(dim=2)
        scaled = mean / mean.square().mean(dim=2, keepdim=True).sqrt().clamp_min(_MIN_SCALE)
        length, reach = ids.shape[1], self.context
        around = F.pad(scaled, (0, 0, reach, reach))
        embedded = torch.cat([around[:, start : start + length] for start in range(2 * reach + 1)], dim=2)
        return (embedded + self.positions) * mask[..., None]


def package_folder() -> Path:
    """Return the folder of the WordLlama package without running its code.

    Raises:
        RunError: WordLlama is not installed.
    """
    spec = find_spec("wordllama")
    if spec is None or not spec.submodule_search_locations:
        raise RunError("text_encoders: WordLlama is not installed; run: pip install 'pocketdit[emoji]'")
    return Path(spec.submodule_search_locations[0])
