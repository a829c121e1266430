"""Scales and adds two gradients that are computed separately (paper Sec. 3.2, "adaptive scaling")."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pocketdit.losses.flow_matching import balancing_scale, shared_gradient_norms
from pocketdit.training.sharding import full_tensor

Gradients = list[Tensor | None]


def swap(parameters: Sequence[nn.Parameter], gradients: Gradients) -> Gradients:
    """Replace the gradients of the parameters and return the previous ones. An empty list removes the gradients."""
    previous = [parameter.grad for parameter in parameters]
    for parameter, gradient in zip(parameters, gradients or [None] * len(parameters), strict=True):
        parameter.grad = gradient
    return previous


@torch.no_grad()
def add(parameters: Sequence[nn.Parameter], gradients: Gradients) -> None:
    """Add ``gradients`` to the gradients of the parameters in place."""
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None:
            parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)


@torch.no_grad()
def balance(parameters: Sequence[nn.Parameter], full: Gradients) -> Tensor:
    """Scale the sub-network's gradient to the norm of the full network's gradient on their shared weights.

    Args:
        parameters: Parameters whose ``grad`` is the sub-network's gradient, which is scaled in place.
        full: The full network's gradient.

    Returns:
        The scale, as a scalar tensor.
    """
    shared = [
        (full_gradient, parameter.grad)
        for parameter, full_gradient in zip(parameters, full, strict=True)
        if full_gradient is not None and parameter.grad is not None
    ]
    scale = full_tensor(
        balancing_scale(*shared_gradient_norms([full for full, _ in shared], [sub for _, sub in shared]))
    )
    torch._foreach_mul_([parameter.grad for parameter in parameters if parameter.grad is not None], scale)
    return scale
