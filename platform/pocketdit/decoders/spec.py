"""A tiny decoder as data."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TinyDecoderSpec:
    """``channels``, ``blocks``: of every level, from the latents' resolution up; each level has twice the side of the
    one before. What is left of ``factor`` after the last level is a pixel shuffle: with factor 8, four levels end at
    full resolution and three at half of it. ``latent_channels``, ``factor``: of the autoencoder.
    """

    channels: tuple[int, ...]
    blocks: tuple[int, ...]
    latent_channels: int = 16
    factor: int = 8

    def __post_init__(self) -> None:
        if not self.channels or len(self.channels) != len(self.blocks):
            raise ValueError("channels and blocks must have one number a level, and at least one level")
        if min(self.channels) < 1 or min(self.blocks) < 0 or self.latent_channels < 1:
            raise ValueError("channels and latent_channels must be positive, blocks not negative")
        if self.factor < 1 or self.factor % 2 ** (len(self.channels) - 1):
            raise ValueError(f"{len(self.channels)} levels enlarge too much for a factor of {self.factor}")

    @property
    def shuffle(self) -> int:
        """Enlargement by the pixel shuffle at the end; 1 is none."""
        return self.factor // 2 ** (len(self.channels) - 1)
