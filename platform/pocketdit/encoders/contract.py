"""Protocols for autoencoders and text encoders.

Shape letters: B = batch, H x W = image sides in pixels, C = latent channels, h x w = latent sides, L = text tokens.

Every implementation is a ``FrozenModule`` whose class is named in the configuration. The class declares the properties
that must be known before any weights are loaded (see ``config/declared.py``).
"""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self, runtime_checkable

from torch import Tensor, nn


class TextTokens(NamedTuple):
    """One text encoder's tokens for a batch of captions."""

    embeddings: Tensor
    """(B, L, width), float32."""
    mask: Tensor
    """(B, L), bool. True for real tokens, False for padding and for tokens hidden by text dropout."""


class Autoencoder(Protocol):
    """Maps images to normalized latents and back.

    A class whose latents are those of a published autoencoder declares this by the argument or the class attribute
    ``kind``, whose values are those of ``encoders.vae.AutoencoderKind``. A published teacher requires it.
    """

    channels: int
    """Number of latent channels, C."""
    factor: int
    """Pixels per side of a latent position, H / h = W / w. A class attribute, so it is known before weights load."""

    def encode(self, images: Tensor) -> Tensor:
        """Encode images (B, 3, H, W) in [-1, 1] to normalized float32 latents (B, C, h, w)."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents (B, C, h, w) to float32 images (B, 3, H, W), clamped to [-1, 1]."""
        ...


class TextEncoder(Protocol):
    """Maps captions to tokens. Implementations accept ``max_tokens`` as a constructor argument."""

    width: int
    """Size of each embedding."""
    max_tokens: int
    """Maximum number of tokens, L. Longer captions are truncated."""

    def encode(self, captions: Sequence[str]) -> TextTokens:
        """Encode B captions to tokens on the encoder's device. A blank caption has no visible tokens."""
        ...


class Reading(NamedTuple):
    """What a text encoder sees of one caption."""

    tokens: int
    """Number of tokens in the whole caption, without start and end tokens."""
    seen: int
    """Number of these tokens that remain after truncation."""
    unknown: tuple[str, ...] = ()
    """Parts of the caption that have no token."""
    words: tuple[str, ...] = ()
    """Words of the caption. Empty unless the network learns the meaning of words only from the training captions."""


@runtime_checkable
class CaptionReader(Protocol):
    """A text encoder that can report what it sees of captions without encoding them. This protocol is optional."""

    max_tokens: int

    def read(self, captions: Sequence[str]) -> list[Reading]:
        """Return what the encoder sees of each caption."""
        ...


class FrozenModule(nn.Module):
    """A module that is never trained. Its weights get no gradients, and ``train()`` leaves it in eval mode.

    Subclasses must call ``freeze()`` after creating their weights. Gradients still flow to the inputs.

    Attributes:
        init_args: Arguments of the constructor, including defaults. Encoded data sets record them.
        weight_sources: Names of the arguments that only specify where the weights are stored. The identity of the
            module depends on the weights, not on these arguments.
    """

    init_args: dict[str, Any]
    weight_sources: tuple[str, ...] = ()

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Record the arguments. A copy is created without arguments, and then gets the arguments of the original."""
        module = super().__new__(cls)
        bound = inspect.signature(cls).bind_partial(*args, **kwargs)
        bound.apply_defaults()
        module.init_args = dict(bound.arguments)
        return module

    @classmethod
    def weights_folder(cls, init_args: Mapping[str, Any]) -> Path | None:
        """Return the folder that contains the weights as .safetensors files, without loading them.

        Args:
            init_args: Arguments of the constructor.

        Returns:
            The folder, or None if the weights are not files on this machine.
        """
        return None

    @classmethod
    def attribution(cls, init_args: Mapping[str, Any]) -> str | None:
        """Return the one-line attribution that a run with this module must include, or None if none is required.

        Args:
            init_args: Arguments of the constructor.
        """
        return None

    def freeze(self) -> None:
        """Turn off gradients for all weights and switch to eval mode."""
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode regardless of ``mode``, as a training loop calls ``train`` on its whole module tree."""
        return super().train(False)
