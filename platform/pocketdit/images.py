"""The one conversion between uint8 images and the float range [-1, 1] that networks work in."""

import torch
from torch import Tensor


def to_uint8(images: Tensor) -> Tensor:
    """Float images in [-1, 1], any shape, to uint8 of the same shape on the CPU. Values outside are clamped."""
    return ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu()


def from_uint8(images: Tensor) -> Tensor:
    """uint8 images, any shape, to float32 in [-1, 1] on the same device."""
    return images.float() / 127.5 - 1
