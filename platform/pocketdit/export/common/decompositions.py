"""Decompositions of PyTorch operations that replace those of PyTorch."""

from torch import Tensor


def lerp_as_arithmetic(start: Tensor, end: Tensor, weight: Tensor) -> Tensor:
    """Compute ``torch.lerp``, whose decomposition in PyTorch copies strides, which no target supports."""
    return start + weight * (end - start)
