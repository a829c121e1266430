"""Decompositions of operations that replace PyTorch's own."""

from torch import Tensor


def lerp_as_arithmetic(start: Tensor, end: Tensor, weight: Tensor) -> Tensor:
    """Compute ``torch.lerp``, whose decomposition in PyTorch copies strides, which no target supports."""
    return start + weight * (end - start)
