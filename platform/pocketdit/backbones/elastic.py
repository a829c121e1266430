"""Elastic layers, whose leading rows and columns form smaller layers (paper Sec. 3.2), and modules for a single width.

The number of input channels selects the width. Slices are views, so a sub-network needs no additional memory. Weights
that a sub-network does not use receive a gradient of zero.

Shape letters: B = batch, D = hidden size of the current width, h x w = sides of the token grid.
"""

import torch.nn.functional as F
from torch import Tensor, nn


def leading(weight: Tensor, *sizes: int) -> Tensor:
    """Slice the leading axes of a weight to the given sizes.

    An axis that already has the requested size is not sliced, because the backward pass of a slice allocates and fills
    a tensor of the full size.
    """
    for axis, size in enumerate(sizes):
        if size != weight.shape[axis]:
            weight = weight.narrow(axis, 0, size)
    return weight


class ElasticLinear(nn.Linear):
    """Linear layer ``y = x W[:out, :in]^T + b[:out]``, where the input determines ``in``."""

    def forward(self, x: Tensor, out_features: int | None = None) -> Tensor:
        """Apply the leading rows and columns of the layer to an input.

        Args:
            x: Input (..., in) with in <= ``in_features``.
            out_features: Number of output features. None uses all of them.

        Returns:
            Output (..., out_features).
        """
        rows = self.out_features if out_features is None else out_features
        bias = None if self.bias is None else leading(self.bias, rows)
        return F.linear(x, leading(self.weight, rows, x.shape[-1]), bias)


def merge_windows(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Apply a 2x2 convolution with stride 2, whose windows do not overlap, as a single matrix product.

    On a CPU, this is faster than a convolution.

    Args:
        x: Feature map, channels last, (B, h, w, C).
        weight: Weight of the convolution (C', C, 2, 2).
        bias: Bias (C').

    Returns:
        Feature map (B, h/2, w/2, C').
    """
    batch, rows, columns, channels = x.shape
    windows = x.reshape(batch, rows // 2, 2, columns // 2, 2, channels).transpose(2, 3).flatten(3)
    return F.linear(windows, weight.permute(0, 2, 3, 1).flatten(1), bias)


def split_windows(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Apply a transposed 2x2 convolution with stride 2 as a single matrix product.

    Args:
        x: Feature map, channels last, (B, h, w, C).
        weight: Weight of the transposed convolution (C, C', 2, 2).
        bias: Bias (C').

    Returns:
        Feature map (B, 2h, 2w, C').
    """
    batch, rows, columns, _ = x.shape
    channels = weight.shape[1]
    windows = F.linear(x, weight.permute(2, 3, 1, 0).flatten(0, 2), None if bias is None else bias.repeat(4))
    return windows.view(batch, rows, columns, 2, 2, channels).transpose(2, 3).reshape(batch, 2 * rows, -1, channels)


class WindowMerge(nn.Conv2d):
    """Stride-2 convolution that merges 2x2 tokens of a channels-last feature map. Its weight is never sliced."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, kernel_size=2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, h, w, C) to (B, h/2, w/2, C)."""
        return merge_windows(x, self.weight, self.bias)


class Downsample(nn.Conv2d):
    """Stride-2 convolution that merges 2x2 tokens into one. Its weight is sliced along both channel axes."""

    def __init__(self, width: int) -> None:
        super().__init__(width, width, kernel_size=2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, D, h, w) with D <= ``width`` to (B, D, h/2, w/2)."""
        size = x.shape[1]
        bias = None if self.bias is None else leading(self.bias, size)
        return merge_windows(x.permute(0, 2, 3, 1), leading(self.weight, size, size), bias).permute(0, 3, 1, 2)


class Upsample(nn.ConvTranspose2d):
    """Stride-2 transposed convolution that splits each token into 2x2. Its weight is sliced along both channel axes."""

    def __init__(self, width: int) -> None:
        super().__init__(width, width, kernel_size=2, stride=2)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Map (B, D, h, w) with D <= ``width`` to (B, D, 2h, 2w). ``output_size`` is ignored."""
        size = x.shape[1]
        bias = None if self.bias is None else leading(self.bias, size)
        return split_windows(x.permute(0, 2, 3, 1), leading(self.weight, size, size), bias).permute(0, 3, 1, 2)


class WidthSpecific(nn.ModuleDict):
    """One module per hidden size, for parameters that cannot be shared between widths.

    The keys are hidden sizes, so a module keeps its name when a sub-network is extracted.
    """

    def for_hidden_size(self, hidden: int) -> nn.Module:
        """Return the module for a hidden size."""
        return self[str(hidden)]
