"""Computes the embeddings of captions with a published language model."""

from collections.abc import Sequence
from typing import Any

import torch

from pocketdit.encoders.contract import TextTokens


def last_hidden_states(
    tokenizer: Any, model: Any, captions: Sequence[str], max_tokens: int, device: torch.device
) -> TextTokens:
    """Encode B captions to float32 embeddings (B, max_tokens, width) that are zero where the mask is False.

    The tokenizer's start and end tokens are visible, except that a blank caption has no visible tokens.

    Args:
        tokenizer: A tokenizer of transformers.
        model: A model of transformers, whose last hidden states are the embeddings.
        captions: The captions.
        max_tokens: Number of tokens to which captions are padded or truncated.
        device: Device of the model.
    """
    batch = tokenizer(
        list(captions),
        padding="max_length",
        padding_side="right",
        truncation=True,
        max_length=max_tokens,
        return_tensors="pt",
    ).to(device)
    # An enclosing autocast would reduce the precision below the requested dtype.
    with torch.autocast(device.type, enabled=False):
        hidden = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
    not_blank = torch.tensor([bool(caption.strip()) for caption in captions], device=device)
    mask = batch.attention_mask.bool() & not_blank[:, None]
    return TextTokens(hidden.last_hidden_state.float() * mask[..., None], mask)
