"""How far a decoder's picture is from the one it should be. Images are (B, 3, H, W) in [-1, 1]."""

import torch
from torch import Tensor

# About one of 255 grey levels: quadratic for errors that nobody sees, absolute for those that blur an edge.
CHARBONNIER_EPSILON = 0.01


def charbonnier_loss(images: Tensor, target: Tensor, epsilon: float = CHARBONNIER_EPSILON) -> Tensor:
    """Mean of sqrt(error^2 + epsilon^2) - epsilon over every element (Charbonnier et al. 1994). Scalar."""
    error = images.float() - target.float()
    return (error.square() + epsilon**2).sqrt().mean() - epsilon


def psnr(images: Tensor, target: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of every image in dB, (B,); the peak is 2, the width of [-1, 1]."""
    return 10 * torch.log10(4 / (images.float() - target.float()).square().flatten(1).mean(1))
