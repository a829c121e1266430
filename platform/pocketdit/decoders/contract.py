"""What a perceptual distance promises to the training of a decoder."""

from typing import Protocol, Self

import torch
from torch import Tensor


class PerceptualDistance(Protocol):
    """Not an ``nn.Module``: a checkpoint of the decoder must not hold the judge's weights."""

    name: str
    """By which the loss is logged; a stand-in must not have a published measure's."""

    def to(self, device: torch.device) -> Self: ...

    def distance(self, images: Tensor, target: Tensor) -> Tensor:
        """Images (B, 3, H, W), about [-1, 1] -> (B,), 0 for equal ones. Gradients reach ``images``."""
        ...
