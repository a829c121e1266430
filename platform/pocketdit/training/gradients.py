"""Two gradients of one network, kept apart until they are added (paper Sec. 3.2, "adaptive scaling")."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pocketdit.losses.flow_matching import balancing_scale, shared_norms
from pocketdit.training.sharding import full_tensor

Gradients = list[Tensor | None]


def take(parameters: Sequence[nn.Parameter]) -> Gradients:
    """The parameters' gradients, leaving none behind."""
    gradients = [parameter.grad for parameter in parameters]
    for parameter in parameters:
        parameter.grad = None
    return gradients


@torch.no_grad()
def add(parameters: Sequence[nn.Parameter], gradients: Gradients) -> None:
    """Add ``gradients`` to what the parameters hold, in place."""
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None:
            parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)


@torch.no_grad()
def balance(parameters: Sequence[nn.Parameter], full: Gradients) -> Tensor:
    """Scale the sub-network's gradient, which the parameters hold, to the full network's norm. Returns the factor."""
    shared = [
        (f, parameter.grad)
        for parameter, f in zip(parameters, full, strict=True)
        if f is not None and parameter.grad is not None
    ]
    scale = full_tensor(balancing_scale(*shared_norms([f for f, _ in shared], [s for _, s in shared])))
    torch._foreach_mul_([parameter.grad for parameter in parameters if parameter.grad is not None], scale)
    return scale
