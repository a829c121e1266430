"""Held-out validation loss at eight noise levels (SD3's protocol, as MLPerf's Flux benchmark runs it)."""

import torch
from torch import Tensor

LEVELS = 8


def level_times() -> list[float]:
    """Equidistant noise levels t = (i + 0.5) / 8."""
    return [(index + 0.5) / LEVELS for index in range(LEVELS)]


def fixed_noise(rows: Tensor, level: int, shape: torch.Size) -> Tensor:
    """One fixed noise for each sample and level, whatever the batch it comes in.

    ``rows``: sample numbers (B,); ``shape``: (C, h, w). Returns (B, C, h, w) in float32 on the CPU.
    """
    noise = []
    for row in rows.tolist():
        generator = torch.Generator().manual_seed((row * LEVELS + level) * 2_654_435_761 % 2**63)
        noise.append(torch.randn(shape, generator=generator))
    return torch.stack(noise)
