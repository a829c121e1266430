"""Converts between uint8 images and the float range [-1, 1] that networks use."""

from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from pocketdit.errors import RunError

ImagesT = TypeVar("ImagesT", Tensor, np.ndarray)


def to_uint8(images: Tensor) -> Tensor:
    """Convert float images in [-1, 1] of any shape to uint8 on the CPU. Out-of-range values are clamped."""
    return ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu()


def from_uint8(images: Tensor) -> Tensor:
    """Convert uint8 images of any shape to float32 in [-1, 1] on the same device."""
    return images.float() / 127.5 - 1


def require_finite(images: ImagesT, model: str) -> ImagesT:
    """Return sampled images unchanged, or raise ``RunError`` if any pixel is NaN or infinite.

    Without this check, such pixels would become black or arbitrary uint8 values.

    Args:
        images: Float images of any range, with the batch as the first dimension.
        model: Name of the model that sampled the images, for the error message.
    """
    bad = int((~torch.as_tensor(images).isfinite().flatten(1).all(dim=1)).sum())
    if bad:
        raise RunError(
            f"{model}: {bad} of {len(images)} images contain NaN or infinity; check the weights and their precision, "
            "and use a smaller guidance scale"
        )
    return images
