"""Distances between a decoder's images and their targets. Images are (B, 3, H, W) in [-1, 1]."""

import torch
from torch import Tensor

# Roughly one of 255 gray levels. The loss is almost quadratic for smaller errors, which are invisible, and almost
# linear for larger errors, such as blurred edges.
CHARBONNIER_EPSILON = 0.01


def charbonnier_loss(images: Tensor, target: Tensor, epsilon: float = CHARBONNIER_EPSILON) -> Tensor:
    """Compute the scalar mean of sqrt(error^2 + epsilon^2) - epsilon over all elements (Charbonnier et al. 1994)."""
    error = images.float() - target.float()
    return (error.square() + epsilon**2).sqrt().mean() - epsilon


def psnr(images: Tensor, target: Tensor) -> Tensor:
    """Compute the peak signal-to-noise ratio of each image in dB, (B,). The peak is 2, the range of the pixels."""
    return 10 * torch.log10(4 / (images.float() - target.float()).square().flatten(1).mean(1))
