"""What an autoencoder and a text encoder promise, whatever is behind them.

Shape letters: B batch, H x W image sides in pixels, C latent channels, h x w latent sides, L text tokens.
Every implementation is a ``Frozen`` module.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, Self

from torch import Tensor, nn


class TextTokens(NamedTuple):
    """Captions as one encoder sees them."""

    embeddings: Tensor
    """(B, L, width), float32."""
    mask: Tensor
    """(B, L), bool: True is a real token, False is padding or dropped."""


class Autoencoder(Protocol):
    """Images to normalised latents and back."""

    channels: int
    """C."""
    factor: int
    """H / h = W / w."""

    def encode(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1] -> latents (B, C, h, w), float32, as the backbone takes them."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (B, C, h, w) -> images (B, 3, H, W), float32, clamped to [-1, 1]."""
        ...


class TextEncoder(Protocol):
    """Captions to tokens."""

    width: int
    max_tokens: int
    """L of every batch; what a caption has beyond it is cut off."""

    def encode(self, captions: Sequence[str]) -> TextTokens:
        """B captions -> tokens on the encoder's device. A blank caption has no real token."""
        ...


class Frozen(nn.Module):
    """A module that is never trained: no gradients for its weights, and ``train()`` leaves it in eval mode.

    Subclasses call ``freeze()`` once their weights are there. Gradients still pass through to the input.
    """

    def freeze(self) -> None:
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """Does nothing for ``mode`` True: a training loop switches its whole tree to training mode."""
        return super().train(False)
