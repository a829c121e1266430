"""Layers of the mobile form (paper supplement C): channels on axis 1, tokens on the last, linear maps as convolutions.

Shape letters: B batch, D channels, H heads, E channels of a head, N tokens.
"""

import torch
from torch import Tensor, nn

# fp16 ends at 65504 and squares of numbers beyond 255 with it. The deviation from the mean is squared at a quarter
# of its size, so that 1023 is the limit. Smaller factors would lose eps, which must not become zero in fp16.
GUARD = 0.25


def normalise(x: Tensor, axis: int, eps: float) -> Tensor:
    """LayerNorm without parameters over one axis: (x - mean) / sqrt(variance + eps).

    The mean is subtracted first, then ``GUARD`` scales what is squared; eps is scaled alike, so the result is
    LayerNorm's.
    """
    centred = (x - x.mean(axis, keepdim=True)) * GUARD
    variance = (centred * centred).mean(axis, keepdim=True)
    return centred * torch.rsqrt(variance + eps * GUARD**2)


def pointwise(inputs: int, outputs: int, bias: bool = True) -> nn.Conv2d:
    """A linear map of every token's channels as a 1x1 convolution."""
    return nn.Conv2d(inputs, outputs, kernel_size=1, bias=bias)


class ChannelNorm(nn.Module):
    """``nn.LayerNorm`` over ``axis`` of a (B, ., ., .) tensor."""

    def __init__(self, channels: int, axis: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.axis, self.eps = axis, eps
        shape = (channels, *[1] * (3 - axis))
        self.weight = nn.Parameter(torch.ones(shape))
        self.bias = nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        """(B, ., ., .) of any size but ``channels`` on ``axis`` -> the same."""
        return normalise(x, self.axis, self.eps) * self.weight + self.bias


def head_norm(head_dim: int) -> ChannelNorm:
    """The norm of every head by itself, of (B, H, E, N)."""
    return ChannelNorm(head_dim, axis=2)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """adaLN of x (B, D, 1, N); shift and scale (B, D, 1, 1), the scale with its 1 already in it."""
    return normalise(x, 1, 1e-6) * scale + shift


def rotate(x_BHEN: Tensor, cos_EN: Tensor, sin_EN: Tensor) -> Tensor:
    """RoPE on the channel pairs (e, e + E/2), as ``backbones.position.rotate``; cos and sin (E/2, N)."""
    first, second = x_BHEN.chunk(2, dim=2)
    return torch.cat([first * cos_EN - second * sin_EN, first * sin_EN + second * cos_EN], dim=2)
