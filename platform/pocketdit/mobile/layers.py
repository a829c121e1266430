"""Layers of the mobile form (paper supplement C): channels on axis 1, tokens on the last axis, linear maps as
convolutions.

Shape letters: B batch, D channels, H heads, E channels per head, N tokens.
"""

import torch
from torch import Tensor, nn

# fp16 ends at 65504, so squares of numbers above 255 overflow. Squaring a quarter of the deviation from the mean moves
# that limit to 1023. A smaller factor would make eps vanish in fp16.
GUARD = 0.25


def normalize(x: Tensor, axis: int, eps: float) -> Tensor:
    """LayerNorm without parameters over one axis: (x - mean) / sqrt(variance + eps).

    ``GUARD`` scales the deviation from the mean before it is squared, and eps accordingly, so the result is
    LayerNorm's.
    """
    centered = (x - x.mean(axis, keepdim=True)) * GUARD
    variance = (centered * centered).mean(axis, keepdim=True)
    return centered * torch.rsqrt(variance + eps * GUARD**2)


def pointwise(inputs: int, outputs: int, bias: bool = True) -> nn.Conv2d:
    """A linear map of each token's channels as a 1x1 convolution."""
    return nn.Conv2d(inputs, outputs, kernel_size=1, bias=bias)


class ChannelNorm(nn.Module):
    """``nn.LayerNorm`` over one axis of a four-dimensional tensor.

    Args:
        channels: Size of the axis.
        axis: The axis, counted from 0.
        eps: Added to the variance.
    """

    def __init__(self, channels: int, axis: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.axis, self.eps = axis, eps
        shape = (channels, *[1] * (3 - axis))
        self.weight = nn.Parameter(torch.ones(shape))
        self.bias = nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        """Normalize x, which has ``channels`` elements on ``axis``."""
        return normalize(x, self.axis, self.eps) * self.weight + self.bias


def head_norm(head_dim: int) -> ChannelNorm:
    """A norm for each head of (B, H, E, N)."""
    return ChannelNorm(head_dim, axis=2)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """adaLN of x (B, D, 1, N). ``shift`` and ``scale`` are (B, D, 1, 1); the scale already contains adaLN's 1."""
    return normalize(x, 1, 1e-6) * scale + shift


def rotate(x_BHEN: Tensor, cos_EN: Tensor, sin_EN: Tensor) -> Tensor:
    """RoPE on the channel pairs (e, e + E/2), like ``backbones.position.apply_rope``; cos and sin are (E/2, N)."""
    first, second = x_BHEN.chunk(2, dim=2)
    return torch.cat([first * cos_EN - second * sin_EN, first * sin_EN + second * cos_EN], dim=2)
