"""The tokenizers of text encoders. A tokenizer turns a prompt into the inputs of the encoder's graph.

An app must implement the kinds of tokenizers that the manifest specifies. No tokenizer needs the weights of a network.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pocketdit.encoders.conditioning import is_empty
from pocketdit.encoders.hashed_text import hashed_phrases, hashed_words
from pocketdit.encoders.word_tokens import split_words

Inputs = dict[str, Tensor]


def tokenize(prompt: str, encoder: dict[str, Any], folder: Path) -> Inputs:
    """Turn a prompt into the inputs of a text encoder's graph, including its ``mask``.

    Args:
        prompt: The prompt. An empty prompt has no visible tokens.
        encoder: The encoder's entry in the manifest.
        folder: The bundle, which contains the tokenizer's files.
    """
    settings, length = encoder["tokenizer"], encoder["tokens"]
    match settings["kind"]:
        case "hashed_words" | "hashed_phrases":
            return hashed(prompt, settings["kind"], settings["width"], length)
        case "word_pieces":
            return word_pieces(prompt, folder / settings["file"], settings["pieces"], length)
        case "clip":
            return clip(prompt, folder / settings["file"], settings["pad"], length)
    raise AssertionError(settings["kind"])  # the schema allows only the kinds above


def hashed(prompt: str, kind: str, width: int, length: int) -> Inputs:
    """Compute a vector of hash bits for each word: ``vectors`` (1, L, width) and ``mask`` (1, L)."""
    compute = hashed_words if kind == "hashed_words" else hashed_phrases
    rows = compute(split_words(prompt), width, length)
    vectors = np.zeros((1, length, width), dtype=np.float32)
    if rows:
        vectors[0, : len(rows)] = rows
    return {"vectors": torch.from_numpy(vectors), "mask": mask(len(rows), length)}


def word_pieces(prompt: str, file: Path, pieces: int, length: int) -> Inputs:
    """Split every word into pieces: ``ids`` and ``weights`` (1, L, pieces), and ``mask`` (1, L).

    Each piece of a word has the weight 1 / (number of pieces), and unused positions have the weight 0.
    """
    tokenizer = load_tokenizer(file)
    words = split_words(prompt)[:length]
    ids, weights = torch.zeros(1, length, pieces, dtype=torch.int32), torch.zeros(1, length, pieces)
    for row, word in enumerate(words):
        found = tokenizer.encode(word, add_special_tokens=False).ids[:pieces]
        ids[0, row, : len(found)] = torch.tensor(found, dtype=torch.int32)
        weights[0, row, : len(found)] = 1 / len(found)
    return {"ids": ids, "weights": weights, "mask": mask(len(words), length)}


def clip(prompt: str, file: Path, pad: int, length: int) -> Inputs:
    """Split a prompt with CLIP's tokenizer: ``ids`` (1, L) with start and end tokens, and ``mask`` (1, L)."""
    tokenizer = load_tokenizer(file)
    tokenizer.no_padding()
    tokenizer.enable_truncation(length)
    found = tokenizer.encode(prompt).ids
    ids = torch.full((1, length), pad, dtype=torch.int32)
    ids[0, : len(found)] = torch.tensor(found, dtype=torch.int32)
    return {"ids": ids, "mask": mask(0 if is_empty(prompt) else len(found), length)}


def mask(visible: int, length: int) -> Tensor:
    """Return a mask (1, L) whose first ``visible`` elements are 1. The others are 0."""
    return (torch.arange(length)[None] < visible).float()


def load_tokenizer(file: Path) -> Any:
    """Load a tokenizer from a file in the format of the ``tokenizers`` library."""
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(file))
