"""Encodes captions for storage. Only the visible tokens are stored, without padding."""

from collections.abc import Sequence

import torch
from torch import Tensor

from datamodules.shards.text_layout import TextLayout
from pocketdit.encoders.contract import TextEncoder, TextTokens
from pocketdit.errors import RunError


def measure_layout(encoder: TextEncoder) -> TextLayout:
    """Return the layout of an encoder's tokens. A short caption is encoded to find out how the encoder pads."""
    tokens = encoder.encode(["a"])
    length, visible = tokens.mask.shape[1], int(tokens.mask.sum())
    return TextLayout(encoder.width, encoder.max_tokens, None if length == visible else length)


@torch.inference_mode()
def encode_captions(
    encoder: TextEncoder, layout: TextLayout, captions: Sequence[str], batch_size: int, dtype: torch.dtype
) -> list[Tensor]:
    """Return the embeddings of each caption's visible tokens, (L, width), on the CPU.

    The batches depend only on the captions and their order.

    Raises:
        RunError: The encoder's output cannot be restored from the visible tokens alone.
    """
    rows: list[Tensor] = []
    for start in range(0, len(captions), batch_size):
        tokens = encoder.encode(captions[start : start + batch_size])
        lengths = tokens.mask.sum(dim=1).tolist()
        _require_restorable(encoder, layout, tokens, lengths)
        embeddings = tokens.embeddings.to("cpu", dtype)
        rows += [row[:length].clone() for row, length in zip(embeddings, lengths, strict=True)]
    return rows


def _require_restorable(encoder: TextEncoder, layout: TextLayout, tokens: TextTokens, lengths: list[int]) -> None:
    length = tokens.mask.shape[1]
    expected = layout.padded_to or max(lengths)
    visible = torch.arange(length, device=tokens.mask.device) < tokens.mask.sum(dim=1, keepdim=True)
    if length != expected or not torch.equal(tokens.mask, visible):
        target = f"{layout.padded_to} tokens" if layout.padded_to else "the length of the longest caption in its batch"
        raise RunError(
            f"the embeddings of {type(encoder).__name__} cannot be stored, because the encoder does not pad every "
            f"caption on the right to {target}; pass --latents-only to encode without text"
        )
