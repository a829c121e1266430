"""Validation loss at eight noise levels (the protocol of SD3, in the form of MLPerf's Flux benchmark)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

NOISE_LEVELS = 8
# Validation batches are smaller, so that no two samples have the same number.
MAX_BATCH = 2**20


def level_times() -> list[float]:
    """Return the times of the equidistant noise levels, t = (i + 0.5) / 8."""
    return [(index + 0.5) / NOISE_LEVELS for index in range(NOISE_LEVELS)]


def sample_ids(batch: Mapping[str, Any], batch_number: int) -> Tensor:
    """Return the numbers (B,) that identify the samples of a validation batch.

    They are the batch's ``"ids"`` or, if it has none, numbers made of the batch's number and the position in the batch.

    Args:
        batch: The batch, with ``"ids"`` or ``"captions"``.
        batch_number: Differs between all batches of a validation, over all ranks.
    """
    if "ids" in batch:
        return batch["ids"]
    return batch_number * MAX_BATCH + torch.arange(len(batch["captions"]))


def fixed_noise(ids: Tensor, level: int, shape: torch.Size) -> Tensor:
    """Draw the noise that belongs to each sample and noise level, independent of the batch.

    Args:
        ids: Numbers of the samples (B,), from ``sample_ids``.
        level: Index of the noise level.
        shape: Shape (C, h, w) of one sample's latents.

    Returns:
        Noise (B, C, h, w) in float32 on the CPU.
    """
    noise = []
    for sample_id in ids.tolist():
        generator = torch.Generator().manual_seed((sample_id * NOISE_LEVELS + level) * 2_654_435_761 % 2**63)
        noise.append(torch.randn(shape, generator=generator))
    return torch.stack(noise)
