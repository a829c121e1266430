"""The protocol for perceptual distances, which decoder training can minimize."""

from typing import Protocol, Self

import torch
from torch import Tensor


class PerceptualDistance(Protocol):
    """A differentiable distance between images.

    It is not an ``nn.Module``, because a decoder's checkpoint would then also contain the weights of the distance.
    """

    name: str
    """Name under which the loss is logged. A stand-in must not use the name of a published metric."""

    def to(self, device: torch.device) -> Self:
        """Move the weights to a device in place."""
        ...

    def distance(self, images: Tensor, target: Tensor) -> Tensor:
        """Compute the distance between each image and its target, with gradients for ``images``.

        Args:
            images: Images (B, 3, H, W), roughly in [-1, 1].
            target: Targets (B, 3, H, W).

        Returns:
            Distances (B,), which are 0 for identical images.
        """
        ...
