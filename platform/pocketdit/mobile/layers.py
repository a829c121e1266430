"""Layers of the mobile form (paper supplement C).

Channels are on axis 1 and tokens on the last axis. Linear maps are 1x1 convolutions.

Shape letters: B = batch, D = channels, H = heads, E = channels per head, N = tokens.
"""

import torch
from torch import Tensor, nn

# The largest fp16 number is 65504, so the square of a number above 255 overflows. Multiplying the deviation from the
# mean by 1/4 before it is squared raises this limit to 1023. With a smaller factor, eps would underflow in fp16.
GUARD = 0.25


def normalize(x: Tensor, axis: int, eps: float) -> Tensor:
    """Apply LayerNorm without parameters over one axis: (x - mean) / sqrt(variance + eps).

    The deviation from the mean is multiplied by ``GUARD`` before it is squared. Because eps is scaled to match, the
    result is the same as without ``GUARD``.
    """
    centered = (x - x.mean(axis, keepdim=True)) * GUARD
    variance = (centered * centered).mean(axis, keepdim=True)
    return centered * torch.rsqrt(variance + eps * GUARD**2)


def pointwise(inputs: int, outputs: int, bias: bool = True) -> nn.Conv2d:
    """Create a linear map of each token's channels, as a 1x1 convolution."""
    return nn.Conv2d(inputs, outputs, kernel_size=1, bias=bias)


class ChannelNorm(nn.Module):
    """``nn.LayerNorm`` over one axis of a four-dimensional tensor.

    Args:
        channels: Size of the axis.
        axis: Index of the axis, from 0 to 3.
        eps: Constant that is added to the variance.
    """

    def __init__(self, channels: int, axis: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.axis, self.eps = axis, eps
        shape = (channels, *[1] * (3 - axis))
        self.weight = nn.Parameter(torch.ones(shape))
        self.bias = nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        """Normalize x over ``axis``, which must have size ``channels``."""
        return normalize(x, self.axis, self.eps) * self.weight + self.bias


def head_norm(head_dim: int) -> ChannelNorm:
    """Create a norm over the channels E of each head of (B, H, E, N)."""
    return ChannelNorm(head_dim, axis=2)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Apply adaLN to x (B, D, 1, N).

    ``shift`` and ``scale`` are (B, D, 1, 1). The scale already includes the 1 of adaLN's ``1 + scale``.
    """
    return normalize(x, 1, 1e-6) * scale + shift


def rotate(x_BHEN: Tensor, cos_EN: Tensor, sin_EN: Tensor) -> Tensor:
    """Apply RoPE to the channel pairs (e, e + E/2), like ``backbones.position.apply_rope``.

    The cosines and sines have the shape (E/2, N).
    """
    first, second = x_BHEN.chunk(2, dim=2)
    return torch.cat([first * cos_EN - second * sin_EN, first * sin_EN + second * cos_EN], dim=2)
