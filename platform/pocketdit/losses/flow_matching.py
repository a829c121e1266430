"""Flow matching and the elastic terms (paper Eq. 4 and 5), and how their gradients are put together."""

from collections.abc import Sequence

import torch
from torch import Tensor


def per_sample_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Eq. 4 of every sample: mean squared error of the velocity, (B, ...) -> (B,)."""
    return (prediction.float() - target.float()).square().flatten(1).mean(1)


def flow_matching_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Eq. 4: mean squared error of the velocity over every element. Scalar."""
    return (prediction.float() - target.float()).square().mean()


def self_distillation_loss(prediction: Tensor, full_prediction: Tensor) -> Tensor:
    """Eq. 5: the sub-network against the full network's velocity, which gets no gradient. Scalar."""
    return (prediction.float() - full_prediction.detach().float()).square().mean()


def shared_norms(full: Sequence[Tensor], sub: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Norms of two gradients of the same parameters, over the entries that the sub-network uses.

    A sliced weight's gradient is exactly zero outside the slice, so the sub-network's own non-zero entries mark
    the shared weights. Scalars.
    """
    pairs = [(f, s) for f, s in zip(full, sub, strict=True)]
    of_full = torch.stack([torch.where(s != 0, f, 0).square().sum() for f, s in pairs]).sum().sqrt()
    of_sub = torch.stack([s.square().sum() for _, s in pairs]).sum().sqrt()
    return of_full, of_sub


def balancing_scale(of_full: Tensor, of_sub: Tensor, limit: float = 10.0) -> Tensor:
    """Factor that gives the sub-network's gradient the full network's norm on the shared weights.

    The paper says only that gradients are "aggregated using adaptive scaling" (Sec. 3.2); this is our reading.
    The factor stays within [1 / limit, limit], so that a vanishing gradient is not blown up. Scalar.
    """
    return (of_full / of_sub.clamp_min(1e-12)).clamp(1 / limit, limit)
