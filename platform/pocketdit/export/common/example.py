"""Example latents for tracing and for comparing an exported network with PyTorch."""

import torch
from torch import Tensor

from pocketdit.backbones.spec import BackboneSpec


def noised_latents(
    spec: BackboneSpec, batch: int, size: tuple[int, int], time: float, generator: torch.Generator
) -> Tensor:
    """Create random latents whose standard deviation in each channel is the one that the network sees at ``time``.

    Args:
        spec: Description of the network, whose ``latent_std`` is the standard deviation of clean latents.
        batch: Batch size.
        size: Latent height and width.
        time: Time between 0 (clean) and 1 (noise).
        generator: Random generator for the clean latents and the noise.

    Returns:
        Latents (batch, channels, height, width).
    """
    std = torch.tensor(spec.latent_std or [1.0] * spec.latent_channels)[:, None, None]
    clean, noise = (torch.randn(batch, spec.latent_channels, *size, generator=generator) for _ in range(2))
    return (1 - time) * std * clean + time * noise
