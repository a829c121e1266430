"""A small autoencoder of 3x3 convolutions without normalization or attention.

Without normalization, each pixel depends only on its surroundings, and the same weights work at every image size. The
decoder computes at half the resolution of the images or less. After each upsampling, 3x3 convolutions mix the features
of neighboring latent positions, so that no borders between these positions are visible.

Shape letters: B = batch, H x W = image sides in pixels, C = latent channels, h x w = latent sides, c = channels of a
level.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from pocketdit.autoencoders.spec import AutoencoderSpec

_MIN_VARIANCE = 1e-8


class ResidualBlock(nn.Module):
    """Residual block x + conv(silu(conv(silu(x))))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, c, h, w) to (B, c, h, w)."""
        output: Tensor = x + self.second(functional.silu(self.first(functional.silu(x))))
        return output


class ConvAutoencoder(nn.Module):
    """Network that maps images to normalized latents and back.

    The outputs of the encoder are raw latents. ``encode`` normalizes every channel with its running mean and variance,
    which are buffers and therefore part of the weights. ``decode`` reverses the normalization. Training uses the raw
    latents: the encoder changes faster than the statistics, and normalized latents would grow without limit.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, spec: AutoencoderSpec) -> None:
        super().__init__()
        self.spec = spec
        self.encoder = _encoder(spec)
        self.decoder = _decoder(spec)
        self.register_buffer("mean", torch.zeros(spec.latent_channels))
        self.register_buffer("variance", torch.ones(spec.latent_channels))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch does not annotate this overload

    def encode(self, images: Tensor) -> Tensor:
        """Map images (B, 3, H, W) in [-1, 1] to normalized float32 latents (B, C, h, w).

        Raises:
            ValueError: H or W is not a multiple of the downsampling factor.
        """
        factor = self.spec.factor
        if images.shape[-2] % factor or images.shape[-1] % factor:
            raise ValueError(f"image sides must be multiples of {factor}, not {tuple(images.shape[-2:])}")
        latents: Tensor = (self.encoder(images).float() - self.mean[:, None, None]) / self._std()
        return latents

    def decode(self, latents: Tensor) -> Tensor:
        """Map normalized latents (B, C, h, w) to unclamped float32 images (B, 3, H, W)."""
        images: Tensor = self.decoder(latents * self._std() + self.mean[:, None, None])
        return images.float()

    def _std(self) -> Tensor:
        return self.variance.clamp_min(_MIN_VARIANCE).sqrt()[:, None, None]

    @torch.no_grad()
    def update_statistics(self, raw: Tensor, momentum: float) -> None:
        """Move the running statistics toward those of a batch of raw latents (B, C, h, w)."""
        variance, mean = torch.var_mean(raw, dim=(0, 2, 3), correction=0)
        self.mean.lerp_(mean, momentum)
        self.variance.lerp_(variance, momentum)


def _encoder(spec: AutoencoderSpec) -> nn.Sequential:
    layers: list[nn.Module] = [nn.PixelUnshuffle(2), nn.Conv2d(12, spec.channels[0], 3, padding=1)]
    for level, (channels, blocks) in enumerate(zip(spec.channels, spec.blocks, strict=True)):
        if level:
            layers.append(nn.Conv2d(spec.channels[level - 1], channels, 2, stride=2))
        layers += [ResidualBlock(channels) for _ in range(blocks)]
    return nn.Sequential(*layers, nn.Conv2d(spec.channels[-1], spec.latent_channels, 1))


def _decoder(spec: AutoencoderSpec) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(spec.latent_channels, spec.channels[-1], 1)]
    layers += [ResidualBlock(spec.channels[-1]) for _ in range(spec.blocks[-1])]
    coarse_to_fine = list(zip(spec.channels, spec.blocks, strict=True))[::-1]
    for (coarse, _), (fine, blocks) in pairwise(coarse_to_fine):
        layers += [nn.Conv2d(coarse, 4 * fine, 1), nn.PixelShuffle(2)]
        layers += [ResidualBlock(fine) for _ in range(blocks)]
    return nn.Sequential(*layers, nn.Conv2d(spec.channels[0], 12, 3, padding=1), nn.PixelShuffle(2))
