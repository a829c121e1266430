"""The architecture of a tiny decoder as data."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TinyDecoderSpec:
    """The architecture of a tiny decoder.

    Its levels begin at the resolution of the latents, and each has twice the side of the one before. A pixel shuffle
    after the last level does the rest of the upsampling: with ``factor`` 8, four levels end at full resolution and
    three at half of it.

    Attributes:
        channels: Channels of each level.
        blocks: Residual blocks of each level.
        latent_channels: Channels of the autoencoder's latents.
        factor: Pixels per side of a latent position of the autoencoder.
    """

    channels: tuple[int, ...]
    blocks: tuple[int, ...]
    latent_channels: int = 16
    factor: int = 8

    def __post_init__(self) -> None:
        if not self.channels or len(self.channels) != len(self.blocks):
            raise ValueError("channels and blocks must have one number per level, and at least one level")
        if min(self.channels) < 1 or min(self.blocks) < 0 or self.latent_channels < 1:
            raise ValueError("channels and latent_channels must be positive, and blocks must not be negative")
        if self.factor < 1 or self.factor % 2 ** (len(self.channels) - 1):
            raise ValueError(f"{len(self.channels)} levels upsample too much for a factor of {self.factor}")

    @property
    def pixel_shuffle(self) -> int:
        """Upsampling factor of the pixel shuffle at the end. 1 means that there is no pixel shuffle."""
        return self.factor // 2 ** (len(self.channels) - 1)
