"""Describes published families of transformers in diffusers, each with one ``Architecture``.

Shape letters: B = batch, C = latent channels, h x w = latent sides, L = text tokens, N = image tokens.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pocketdit.config.component import Component
from pocketdit.encoders.contract import TextTokens
from pocketdit.encoders.vae import AutoencoderKind

PATCH_SIZE = 2
"""Number of latent positions per side of an image token, which is the same for all families."""


def linear_guidance(cond: Tensor, uncond: Tensor, guidance: float) -> Tensor:
    """Apply classifier-free guidance. If ``guidance`` is 1, the result is the conditional velocity.

    Some pipelines compute cond + w (cond - uncond) instead, where w is ``guidance`` - 1.
    """
    return uncond + guidance * (cond - uncond)


class TextShape(NamedTuple):
    """The shape of one text encoder's tokens."""

    tokens: int
    width: int


@dataclass(frozen=True)
class Architecture:
    """A family of transformers: how to call them, and how to convert their output to a velocity.

    Attributes:
        name: Name of the family, for messages.
        transformer: Name of the transformer's class in diffusers.
        latents: Kind of the autoencoder whose latents the family was trained on.
        velocity: Function of (transformer, x_t, time, text, guidance) that returns the velocity noise - x_0,
            (B, C, h, w). It handles the family's token packing and its conventions for time and sign. ``guidance``
            matters only for transformers that were distilled with guidance and take the scale as an input.
        text: Function of (repository, revision, max_tokens, dtype) that returns the configurations of the text
            encoders.
        text_shapes: Function of (config, tokens, max_tokens) that returns the shape of each text encoder's tokens for
            captions with ``tokens`` tokens. The main text encoder comes first.
        max_tokens: Default maximum length of a caption, including the template, in tokens of the main text encoder.
        is_packed: Whether the transformer's input is packed, so that it has C * ``PATCH_SIZE`` ** 2 channels.
        feature_width: Name of the transformer's attribute that contains the size of its features.
        output: Name of the module whose first input is the last block's output, with the N image tokens first.
        blocks: Names of the transformer's lists of blocks. FSDP2 shards each block separately.
        guide: Function of (conditional velocity, unconditional velocity, scale) that applies guidance.
        required: Values that the transformer's config must have. Models with other values need other inputs.
        lora_loader: Name of the diffusers class that reads a LoRA for the transformer. None if a few-step LoRA is not
            supported.
        published: Mapping from published repositories to the settings in which their transformers differ from the
            class's defaults.
    """

    name: str
    transformer: str
    latents: AutoencoderKind
    velocity: Callable[[Any, Tensor, Tensor, Sequence[TextTokens], float], Tensor]
    text: Callable[[str, str | None, int, str], list[Component]]
    text_shapes: Callable[[Mapping[str, Any], int, int], list[TextShape]]
    max_tokens: int
    is_packed: bool
    feature_width: str = "inner_dim"
    output: str = "norm_out"
    blocks: tuple[str, ...] = ("transformer_blocks",)
    guide: Callable[[Tensor, Tensor, float], Tensor] = linear_guidance
    required: Mapping[str, object] = field(default_factory=dict)
    lora_loader: str | None = None
    published: Mapping[str, dict[str, Any]] = field(default_factory=dict)

    def channels(self, transformer: Any) -> int:
        """Return the number of latent channels, C."""
        return int(transformer.config.in_channels) // (PATCH_SIZE**2 if self.is_packed else 1)

    def takes_guidance(self, transformer: Any) -> bool:
        """Return whether a transformer takes the guidance scale as an input, and so needs no second pass."""
        return bool(transformer.config.get("guidance_embeds"))


def pack(latents: Tensor) -> Tensor:
    """Convert latents (B, C, h, w) to image tokens (B, N, 4 C) in raster order, with values grouped by channel."""
    return F.pixel_unshuffle(latents, PATCH_SIZE).flatten(2).transpose(1, 2)


def unpack(tokens: Tensor, sides: Sequence[int]) -> Tensor:
    """Convert image tokens (B, N, 4 C) to latents (B, C, h, w), where ``sides`` is (h, w). Inverse of ``pack``."""
    grid = [side // PATCH_SIZE for side in sides]
    return F.pixel_shuffle(torch.unflatten(tokens.transpose(1, 2), 2, grid), PATCH_SIZE)


def image_positions(latents: Tensor, axes: int, row_axis: int = 1) -> Tensor:
    """Return the positions (N, axes) of the image tokens: the row and the column in two adjacent axes, and 0 elsewhere.

    Args:
        latents: Latents (B, C, h, w).
        axes: Number of axes of the rotary position embedding.
        row_axis: Index of the row axis. The column axis is the next one.
    """
    height, width = (side // PATCH_SIZE for side in latents.shape[-2:])
    positions = torch.zeros(height, width, axes, device=latents.device)
    positions[..., row_axis] = torch.arange(height, device=latents.device)[:, None]
    positions[..., row_axis + 1] = torch.arange(width, device=latents.device)
    return positions.flatten(0, 1)


def visible_or_none(tokens: TextTokens) -> Tensor | None:
    """Return the tokens' mask, or None if all tokens are visible, because attention without a mask is faster."""
    return None if bool(tokens.mask.all()) else tokens.mask


def component(encoder: type, **arguments: Any) -> Component:
    """Return the configuration of a text encoder."""
    return Component(f"{encoder.__module__}.{encoder.__qualname__}", arguments)
