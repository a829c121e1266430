"""Decompositions that the exports use in place of PyTorch's."""

from torch import Tensor


def lerp_as_arithmetic(start: Tensor, end: Tensor, weight: Tensor) -> Tensor:
    """Compute ``torch.lerp``. PyTorch's decomposition of it copies strides, which no export target supports."""
    return start + weight * (end - start)
