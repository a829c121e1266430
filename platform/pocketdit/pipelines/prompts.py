"""Encodes prompts with the text encoders of a pipeline."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from pocketdit.encoders.conditioning import hide_empty
from pocketdit.encoders.contract import TextTokens
from pocketdit.encoders.hidden_states import last_hidden_states
from pocketdit.pipelines.embedded import HashedTextModel


def encode_prompts(
    encoder: Any, tokenizer: Any, prompts: Sequence[str], max_tokens: int, device: torch.device
) -> TextTokens:
    """Encode prompts. An empty prompt has no visible tokens.

    Args:
        encoder: A hash-based text encoder, or a language model of transformers.
        tokenizer: Tokenizer of the language model.
        prompts: The prompts.
        max_tokens: Number of tokens to which prompts are padded or truncated by the tokenizer.
        device: Device of the encoder.
    """
    if isinstance(encoder, HashedTextModel):
        tokens = encoder(prompts)
    else:
        tokens = last_hidden_states(tokenizer, encoder, prompts, max_tokens, device)
    return hide_empty([tokens], prompts)[0]


def repeat_tokens(tokens: Sequence[TextTokens], count: int) -> list[TextTokens]:
    """Repeat the tokens of every prompt ``count`` times."""
    return [TextTokens(*(part.repeat_interleave(count, dim=0) for part in encoded)) for encoded in tokens]


def pad_tokens(tokens: TextTokens, length: int) -> TextTokens:
    """Append hidden tokens up to a length."""
    missing = length - tokens.mask.shape[1]
    if missing <= 0:
        return tokens
    mask: Tensor = functional.pad(tokens.mask, (0, missing))
    return TextTokens(functional.pad(tokens.embeddings, (0, 0, 0, missing)), mask)


def pad_alike(first: Sequence[TextTokens], second: Sequence[TextTokens]) -> tuple[list[TextTokens], list[TextTokens]]:
    """Pad two encodings to the same number of tokens per encoder, so that they can be concatenated."""
    lengths = [max(a.mask.shape[1], b.mask.shape[1]) for a, b in zip(first, second, strict=True)]
    padded = [[pad_tokens(*pair) for pair in zip(tokens, lengths, strict=True)] for tokens in (first, second)]
    return padded[0], padded[1]
