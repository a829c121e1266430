"""Store the weights of quantized layers as lookup tables."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import coreai_torch._compression.custom_layers  # noqa: F401  (the import registers the operation lut_to_dense)
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from pocketdit.quantization.palette import Palette


class Lookup(nn.Module):
    """A weight that Core AI looks up in a palette. Core AI requires the buffer names ``indices`` and ``lut``.

    Args:
        palette: Palette of the layer.
        shape: Shape of the layer's weight, which has one element per index of the palette.
    """

    indices: Tensor
    lut: Tensor

    def __init__(self, palette: Palette, shape: torch.Size) -> None:
        super().__init__()
        self.register_buffer("indices", palette.indices.reshape(shape))
        self.register_buffer("lut", palette.values.float().reshape(*[1] * len(shape), -1, 1))

    def forward(self, _: Tensor) -> Tensor:
        """Return the weight."""
        weight: Tensor = torch.ops.coreai.lut_to_dense(self.indices, self.lut, 0)
        return weight


@contextmanager
def lookup_weights(module: nn.Module, palettes: Mapping[str, Palette]) -> Iterator[None]:
    """Replace the weights of quantized layers with lookups while the context is open.

    Args:
        module: Module that contains the layers.
        palettes: Palette of each quantized layer.
    """
    layers = {module.get_submodule(name): palette for name, palette in palettes.items()}
    for layer, palette in layers.items():
        lookup = Lookup(palette, layer.get_parameter("weight").shape)
        parametrize.register_parametrization(layer, "weight", lookup, unsafe=True)
    try:
        yield
    finally:
        for layer in layers:
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
