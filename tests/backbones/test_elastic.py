"""Tests for the elastic layers that change the resolution, compared with PyTorch's convolutions."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pocketdit.backbones.elastic import Downsample, Upsample, WindowMerge


@pytest.mark.parametrize("size", [8, 5])
@pytest.mark.parametrize("layer_type", [Downsample, Upsample])
def test_resampling_equals_a_convolution_with_sliced_weights(
    layer_type: type[Downsample] | type[Upsample], size: int
) -> None:
    torch.manual_seed(0)
    layer = layer_type(8)
    x = torch.randn(3, size, 6, 4, requires_grad=True)

    def gradients(output: Tensor) -> list[Tensor]:
        weight, bias = layer.weight, layer.bias
        assert bias is not None
        return list(torch.autograd.grad(output.square().sum(), (x, weight, bias)))

    assert layer.bias is not None
    convolution = F.conv2d if isinstance(layer, Downsample) else F.conv_transpose2d
    expected = convolution(x, layer.weight[:size, :size], layer.bias[:size], stride=2)
    torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(gradients(layer(x)), gradients(expected), atol=1e-4, rtol=1e-4)


def test_merging_windows_equals_a_convolution() -> None:
    torch.manual_seed(0)
    layer = WindowMerge(8)
    x = torch.randn(3, 6, 4, 8)
    expected = F.conv2d(x.permute(0, 3, 1, 2), layer.weight, layer.bias, stride=2).permute(0, 2, 3, 1)
    torch.testing.assert_close(layer(x), expected)
