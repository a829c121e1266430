"""Example latents for tracing and for comparing an exported network with PyTorch."""

import torch
from torch import Tensor

from pocketdit.backbones.spec import DiTSpec


def noised_latents(spec: DiTSpec, batch: int, size: tuple[int, int], time: float, generator: torch.Generator) -> Tensor:
    """Random latents with the per-channel spread that the network sees at ``time``.

    Args:
        spec: The network; ``latent_std`` is the spread of clean latents.
        batch: Number of latents.
        size: Latent height and width.
        time: Between 0 (clean) and 1 (noise).
        generator: Source of the clean latents, then of the noise.

    Returns:
        (batch, channels, height, width).
    """
    std = torch.tensor(spec.latent_std or [1.0] * spec.latent_channels)[:, None, None]
    clean, noise = (torch.randn(batch, spec.latent_channels, *size, generator=generator) for _ in range(2))
    return (1 - time) * std * clean + time * noise
