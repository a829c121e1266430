"""Reads the text embeddings of an encoded data set. See ``text_layout`` for how they are stored."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from datamodules.shards.schema import SampleError
from datamodules.shards.text_layout import BLANK, Group, TextLayout, tensor_name
from pocketdit.encoders.contract import TextTokens


def read_text(
    tensors: Mapping[str, Tensor], group: Group, layouts: Sequence[TextLayout], caption: int | Literal["blank"]
) -> list[Tensor]:
    """Return the embeddings of a caption, or of the empty caption, from each encoder of a group.

    Returns:
        One tensor (L, width) per encoder, in the stored type.

    Raises:
        SampleError: A tensor is missing, is not finite, or has the wrong type or shape.
    """
    return [_read(tensors, tensor_name(group, i, caption), layout) for i, layout in enumerate(layouts)]


def require_text(tensors: Mapping[str, Tensor], layouts: Mapping[Group, Sequence[TextLayout]], captions: int) -> None:
    """Check the text embeddings of all captions of a sample.

    Raises:
        SampleError: See ``read_text``.
    """
    for group, encoders in layouts.items():
        for caption in (*range(captions), *([BLANK] if group == "teacher" else [])):
            read_text(tensors, group, encoders, caption)


def _read(tensors: Mapping[str, Tensor], name: str, layout: TextLayout) -> Tensor:
    if name not in tensors:
        raise SampleError(f'the payload does not contain the tensor "{name}"')
    tokens = tensors[name]
    if not tokens.is_floating_point():
        raise SampleError(f"{name} has type {tokens.dtype}, which is not a floating-point type")
    if tokens.ndim != 2 or tokens.shape[1] != layout.width or len(tokens) > layout.max_tokens:
        expected = f"(at most {layout.max_tokens}, {layout.width})"
        raise SampleError(f"{name} has shape {tuple(tokens.shape)}, expected {expected}")
    if not torch.isfinite(tokens).all():
        raise SampleError(f"{name} is not finite")
    return tokens


def pad_text(captions: Sequence[Tensor], layout: TextLayout) -> TextTokens:
    """Combine the embeddings of B captions, (L, width) each, into a batch that is padded like the encoder's output.

    The embeddings keep their stored type, so that no more bytes than necessary are copied to the device.
    """
    length = layout.padded_to or max(len(tokens) for tokens in captions)
    embeddings = torch.zeros(len(captions), length, layout.width, dtype=captions[0].dtype)
    mask = torch.zeros(len(captions), length, dtype=torch.bool)
    for row, tokens in enumerate(captions):
        embeddings[row, : len(tokens)] = tokens
        mask[row, : len(tokens)] = True
    return TextTokens(embeddings, mask)
