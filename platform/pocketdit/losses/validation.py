"""Times and noise of the validation loss at eight noise levels (SD3's protocol, as in MLPerf's Flux benchmark)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

NOISE_LEVELS = 8
# Validation batches are smaller than this, so every sample gets a unique ID.
MAX_BATCH = 2**20


def level_times() -> list[float]:
    """Return the times of the evenly spaced noise levels, t = (i + 0.5) / 8."""
    return [(index + 0.5) / NOISE_LEVELS for index in range(NOISE_LEVELS)]


def sample_ids(batch: Mapping[str, Any], batch_number: int) -> Tensor:
    """Return IDs (B,) for the samples of a validation batch.

    If the batch has no ``"ids"``, they are derived from ``batch_number`` and each sample's position in the batch.

    Args:
        batch: The batch, with ``"ids"`` or ``"captions"``.
        batch_number: Batch index, which is unique among all batches and ranks of a validation epoch.
    """
    if "ids" in batch:
        ids: Tensor = batch["ids"]
        return ids
    return batch_number * MAX_BATCH + torch.arange(len(batch["captions"]))


def fixed_noise(ids: Tensor, level: int, shape: torch.Size) -> Tensor:
    """Draw noise that depends only on the sample and the noise level, not on the batch.

    Args:
        ids: IDs of the samples (B,), from ``sample_ids``.
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
