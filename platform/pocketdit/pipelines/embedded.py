"""Diffusers models of the encoders without published weights: hash-based text encoders, DCT, and tiny decoders.

They always compute in float32, as they do in a run, because rounding to bf16 would be visible in images.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, Self, assert_never

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor

from pocketdit.decoders.spec import TinyDecoderSpec
from pocketdit.decoders.tiny import TinyDecoder
from pocketdit.encoders.contract import TextTokens
from pocketdit.encoders.dct import DCTAutoencoder
from pocketdit.encoders.hashed_text import PhraseEncoder, WordEncoder


class Float32Model(ModelMixin, ConfigMixin):
    """A model whose weights stay in float32 when a pipeline is loaded in, or converted to, another dtype."""

    @classmethod
    def from_pretrained(cls, folder: Any, **options: Any) -> Any:
        """Load the model in float32, whatever dtype the pipeline is loaded in."""
        options.pop("dtype", None)
        return super().from_pretrained(folder, **{**options, "torch_dtype": torch.float32})

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        moved: Self = super()._apply(lambda tensor: tensor.to(fn(tensor).device), recurse)
        return moved


class HashedTextModel(Float32Model):
    """A hash-based text encoder. It has no weights, so its weights file contains a version number instead.

    Args:
        kind: ``word`` or ``phrase``.
        width: Size of the embeddings.
        max_tokens: Maximum number of words.
    """

    version: Tensor

    @register_to_config
    def __init__(self, kind: Literal["word", "phrase"], width: int, max_tokens: int) -> None:
        super().__init__()
        self.encoder: WordEncoder | PhraseEncoder
        match kind:
            case "word":
                self.encoder = WordEncoder(width, max_tokens)
            case "phrase":
                self.encoder = PhraseEncoder(width, max_tokens)
            case _:
                assert_never(kind)
        self.register_buffer("version", torch.ones(1))

    def forward(self, captions: Sequence[str]) -> TextTokens:
        """Encode captions. See ``TextEncoder.encode``."""
        return self.encoder.encode(captions)


class DCTAutoencoderModel(Float32Model):
    """The analytic autoencoder. It has no weights, so its weights file contains a version number instead.

    Args:
        scale: See ``DCTAutoencoder``.
        center: See ``DCTAutoencoder``.
    """

    version: Tensor

    @register_to_config
    def __init__(self, scale: float, center: float) -> None:
        super().__init__()
        self.autoencoder = DCTAutoencoder(scale, center)
        self.register_buffer("version", torch.ones(1))

    def encode(self, images: Tensor) -> Tensor:
        """Encode images to normalized latents. See ``Autoencoder.encode``."""
        return self.autoencoder.encode(images)

    def decode(self, latents: Tensor) -> Tensor:
        """Decode normalized latents. See ``Autoencoder.decode``."""
        return self.autoencoder.decode(latents)


class TinyDecoderModel(Float32Model):
    """A tiny decoder. The arguments are those of ``TinyDecoderSpec``."""

    @register_to_config
    def __init__(
        self, channels: Sequence[int], blocks: Sequence[int], latent_channels: int = 16, factor: int = 8
    ) -> None:
        super().__init__()
        self.decoder = TinyDecoder(TinyDecoderSpec(tuple(channels), tuple(blocks), latent_channels, factor))

    def decode(self, latents: Tensor) -> Tensor:
        """Decode normalized latents. See ``Autoencoder.decode``."""
        return self.decoder.decode(latents)
