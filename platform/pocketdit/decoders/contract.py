"""The protocol of a perceptual distance, which the training of a decoder can minimize."""

from typing import Protocol, Self

import torch
from torch import Tensor


class PerceptualDistance(Protocol):
    """A differentiable distance between images.

    It is not an ``nn.Module`` because a decoder's checkpoint must not contain the weights of its judge.
    """

    name: str
    """Name under which the loss is logged. A stand-in must not use the name of a published measure."""

    def to(self, device: torch.device) -> Self:
        """Move the weights to a device in place."""
        ...

    def distance(self, images: Tensor, target: Tensor) -> Tensor:
        """Compute the distance of each image from its target. Gradients reach ``images``.

        Args:
            images: Images (B, 3, H, W), roughly in [-1, 1].
            target: Targets (B, 3, H, W).

        Returns:
            Distances (B,), 0 for equal images.
        """
        ...
