"""Protocols of an autoencoder and a text encoder.

Shape letters: B batch, H x W image sides in pixels, C latent channels, h x w latent sides, L text tokens.

Every implementation is a ``FrozenModule`` and a class that the configuration names. What must be known before weights
are loaded is declared by the class: see ``config/declared.py``.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, Self

from torch import Tensor, nn


class TextTokens(NamedTuple):
    """One text encoder's tokens for a batch of captions."""

    embeddings: Tensor
    """(B, L, width), float32."""
    mask: Tensor
    """(B, L), bool. True is a real token, False is padding or hidden by text dropout."""


class Autoencoder(Protocol):
    """Maps images to normalized latents and back."""

    channels: int
    """C."""
    factor: int
    """Pixels per side of a latent position, H / h = W / w. A class attribute, so no instance is needed to know it."""

    def encode(self, images: Tensor) -> Tensor:
        """Encode images (B, 3, H, W) in [-1, 1] to latents (B, C, h, w), float32, as the backbone expects them."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents (B, C, h, w) to images (B, 3, H, W), float32, clamped to [-1, 1]."""
        ...


class TextEncoder(Protocol):
    """Maps captions to tokens. Implementations accept ``max_tokens`` as a constructor argument."""

    width: int
    """Size of an embedding."""
    max_tokens: int
    """Largest L. Captions with more tokens are truncated."""

    def encode(self, captions: Sequence[str]) -> TextTokens:
        """Encode B captions to tokens on the encoder's device. A blank caption has no visible token."""
        ...


class FrozenModule(nn.Module):
    """A module that is never trained: its weights get no gradients, and ``train()`` leaves it in eval mode.

    Subclasses call ``freeze()`` after they have created their weights. Gradients still flow to the input.
    """

    def freeze(self) -> None:
        """Turn off gradients for all weights and switch to eval mode."""
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode for any ``mode``, because a training loop switches its whole module tree."""
        return super().train(False)
