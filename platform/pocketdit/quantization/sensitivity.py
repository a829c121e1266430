"""How much a layer's own output suffers when this layer alone is quantised (paper supplement C)."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pocketdit.quantization.palette import Palette


@torch.no_grad()
def output_errors(
    network: nn.Module, palettes: Mapping[str, Palette], inputs: Iterable[Sequence[Any]]
) -> dict[str, Tensor]:
    """For every layer of ``palettes``: [sum of squared errors, sum of squared outputs], (2,) in float64.

    All layers are measured in the same forward passes of the unquantised network, one for each of ``inputs`` (its
    arguments): each computes its output twice, and passes the unquantised one on. The first sum over the second is
    the layer's MSE relative to its output's power. A layer that never ran has zeros.
    """
    device = next(network.parameters()).device
    sums = {name: torch.zeros(2, dtype=torch.float64, device=device) for name in palettes}
    hooks = [
        network.get_submodule(name).register_forward_hook(measuring(palette, sums[name]), with_kwargs=True)
        for name, palette in palettes.items()
    ]
    try:
        for arguments in inputs:
            network(*arguments)
    finally:
        for hook in hooks:
            hook.remove()
    return sums


def measuring(palette: Palette, sums: Tensor) -> Callable[..., None]:
    """A forward hook that adds to ``sums`` the layer's error with its weight from the palette, and its power."""

    def hook(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
        weight = layer.get_parameter("weight")
        kept = weight.data
        weight.data = palette.dense().to(kept.dtype)
        try:
            quantised = layer.forward(*args, **kwargs)  # not a call, which would come back here
        finally:
            weight.data = kept
        sums[0] += (quantised - output).double().square().sum()
        sums[1] += output.double().square().sum()

    return hook
