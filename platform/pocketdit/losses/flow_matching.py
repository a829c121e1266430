"""Flow matching and self-distillation losses (Eqs. 4 and 5 of the paper).

Also computes the factor that balances the gradients of the two losses.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.linalg import vector_norm
from torch.nn.utils import get_total_norm


def per_sample_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Compute Eq. 4 per sample: the mean squared error of velocities (B, ...), as float32 values (B,)."""
    return (prediction.float() - target.float()).square().flatten(1).mean(1)


def flow_matching_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Compute Eq. 4: the scalar mean squared error of the velocity over all elements."""
    return (prediction.float() - target.float()).square().mean()


def self_distillation_loss(prediction: Tensor, full_prediction: Tensor) -> Tensor:
    """Compute Eq. 5: the scalar mean squared error against the full network's velocity, which receives no gradient."""
    return (prediction.float() - full_prediction.detach().float()).square().mean()


def shared_gradient_norms(full: Sequence[Tensor], sub: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Compute the norms of two gradients over the weights that the full network shares with a sub-network.

    The gradient of a sliced weight is exactly zero outside the slice, so the nonzero entries of the sub-network's
    gradient mark the shared weights.

    Args:
        full: Each parameter's gradient from the full network.
        sub: Each parameter's gradient from the sub-network.

    Returns:
        The scalar norms of the full network's and the sub-network's gradients.
    """
    shared = [vector_norm(torch.where(s.bool(), f, f.new_zeros(()))) for f, s in zip(full, sub, strict=True)]
    return vector_norm(torch.stack(shared)), get_total_norm(sub)


def balancing_scale(full_norm: Tensor, sub_norm: Tensor, limit: float = 10.0) -> Tensor:
    """Compute the factor that scales the sub-network's gradient to the norm of the full network's gradient.

    Both norms cover only the shared weights. The paper says only that gradients are "aggregated using adaptive scaling"
    (Sec. 3.2). This is our interpretation.

    Args:
        full_norm: Norm of the full network's gradient.
        sub_norm: Norm of the sub-network's gradient.
        limit: The factor is clamped to [1 / limit, limit], so that a vanishing gradient is not amplified without bound.

    Returns:
        Scalar factor.
    """
    return (full_norm / sub_norm.clamp_min(1e-12)).clamp(1 / limit, limit)
