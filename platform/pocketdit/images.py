"""Conversion between uint8 images and the float range [-1, 1] that networks use."""

import torch
from torch import Tensor


def to_uint8(images: Tensor) -> Tensor:
    """Convert float images in [-1, 1] of any shape to uint8 on the CPU. Out-of-range values are clamped."""
    return ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu()


def from_uint8(images: Tensor) -> Tensor:
    """Convert uint8 images of any shape to float32 in [-1, 1] on the same device."""
    return images.float() / 127.5 - 1
