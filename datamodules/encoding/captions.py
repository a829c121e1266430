"""Encodes captions as the tokens that are stored: only the visible ones, without padding."""

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
    """Return the visible tokens of each caption, (L, width), on the CPU.

    The batches depend only on the captions and their order.

    Raises:
        RunError: The encoder's tokens cannot be restored from the visible ones.
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
        raise RunError(
            f"the embeddings of {type(encoder).__name__} cannot be stored, because it does not pad every caption on "
            f"the right to {layout.padded_to or 'the longest in its batch'}; encode without text: --latents-only"
        )
