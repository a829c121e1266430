"""Specification of a tiny decoder's architecture."""

from dataclasses import dataclass
from typing import Annotated

from pocketdit.bounds import Between, check_bounds

Channels = Annotated[int, Between(1, 65_536)]


@dataclass(frozen=True)
class TinyDecoderSpec:
    """The architecture of a tiny decoder.

    The first level has the resolution of the latents, and each further level doubles the resolution. A pixel shuffle
    after the last level does the rest of the upsampling. With a ``factor`` of 8, four levels end at the full resolution
    and three levels at half of it.

    Attributes:
        channels: Number of channels in each level.
        blocks: Number of residual blocks in each level.
        latent_channels: Channels of the autoencoder's latents.
        factor: Pixels per side of a latent position, as in ``Autoencoder.factor``.
    """

    channels: tuple[Channels, ...]
    blocks: tuple[Annotated[int, Between(0, 1000)], ...]
    latent_channels: Channels = 16
    factor: Annotated[int, Between(1, 256)] = 8

    def __post_init__(self) -> None:
        check_bounds(self)
        if not self.channels or len(self.channels) != len(self.blocks):
            raise ValueError("channels and blocks must contain one number per level, for at least one level")
        if self.factor % self._level_factor:
            raise ValueError(
                f"factor must be a multiple of {self._level_factor} for {len(self.channels)} levels, not {self.factor}"
            )

    @property
    def _level_factor(self) -> int:
        """Combined upsampling factor of all levels."""
        return 1 << (len(self.channels) - 1)

    @property
    def pixel_shuffle(self) -> int:
        """Upsampling factor of the final pixel shuffle, or 1 if there is no pixel shuffle."""
        return self.factor // self._level_factor
