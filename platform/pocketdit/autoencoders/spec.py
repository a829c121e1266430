"""Specification of a small autoencoder's architecture."""

from dataclasses import dataclass
from typing import Annotated

from pocketdit.bounds import Between, check_bounds

Channels = Annotated[int, Between(1, 65_536)]


@dataclass(frozen=True)
class AutoencoderSpec:
    """The architecture of a small autoencoder.

    The first level has half the resolution of the images, and each further level halves the resolution again. The
    decoder has the same levels as the encoder in reverse order.

    Attributes:
        channels: Number of channels in each level.
        blocks: Number of residual blocks in each level of the encoder, and in each level of the decoder.
        latent_channels: Number of channels of the latents.
    """

    channels: tuple[Channels, ...] = (32, 64, 96)
    blocks: tuple[Annotated[int, Between(0, 1000)], ...] = (1, 1, 2)
    latent_channels: Channels = 16

    def __post_init__(self) -> None:
        check_bounds(self)
        if not self.channels or len(self.channels) != len(self.blocks):
            raise ValueError("channels and blocks must contain one number per level, for at least one level")

    @property
    def factor(self) -> int:
        """Downsampling factor: the side of a latent position in pixels."""
        return 1 << len(self.channels)
