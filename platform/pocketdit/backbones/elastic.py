"""Layers whose leading rows and columns are a smaller layer (paper Sec. 3.2), and what each width keeps alone.

The input's channel count tells the width. Slices are views: a sub-network has no storage of its own, and the
gradient of the weights it does not use is zero.
"""

import torch.nn.functional as F
from torch import Tensor, nn


class ElasticLinear(nn.Linear):
    """``y = x W[:out, :in]^T + b[:out]`` with ``in`` from the input, ``out`` all rows unless told."""

    def forward(self, x: Tensor, out_features: int | None = None) -> Tensor:
        """x (..., in) with in <= in_features -> (..., out_features)."""
        rows = self.out_features if out_features is None else out_features
        bias = None if self.bias is None else self.bias[:rows]
        return F.linear(x, self.weight[:rows, : x.shape[-1]], bias)


class Downsample(nn.Conv2d):
    """Merge 2x2 tokens into one of the same width, by a stride-2 convolution sliced in both channel axes."""

    def __init__(self, width: int) -> None:
        super().__init__(width, width, kernel_size=2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, h, w) with D <= width -> (B, D, h/2, w/2)."""
        size = x.shape[1]
        bias = None if self.bias is None else self.bias[:size]
        return F.conv2d(x, self.weight[:size, :size], bias, stride=2)


class Upsample(nn.ConvTranspose2d):
    """Split one token into 2x2 of the same width, by a stride-2 transposed convolution sliced in both axes."""

    def __init__(self, width: int) -> None:
        super().__init__(width, width, kernel_size=2, stride=2)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(B, D, h, w) with D <= width -> (B, D, 2h, 2w)."""
        size = x.shape[1]
        bias = None if self.bias is None else self.bias[:size]
        return F.conv_transpose2d(x, self.weight[:size, :size], bias, stride=2)


class PerWidth(nn.ModuleDict):
    """One module for every hidden size: what is tied to the hidden size is not shared between widths.

    Keyed by the hidden size, so that an extracted network finds its own under the same name.
    """

    def at(self, hidden: int) -> nn.Module:
        return self[str(hidden)]
