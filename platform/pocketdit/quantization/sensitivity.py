"""Layer sensitivity: the error of a layer's output when only that layer is quantized (supplement C of the paper)."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pocketdit.quantization.palette import Palette


@torch.no_grad()
def output_errors(
    network: nn.Module, palettes: Mapping[str, Palette], inputs: Iterable[Sequence[Any]]
) -> dict[str, Tensor]:
    """Measure the output error of every palettized layer in isolation.

    All layers are measured in the same forward passes of the unquantized network. Each layer computes its output with
    and without quantization, and the next layer gets the unquantized output.

    Args:
        network: The network. Its weights are restored after each measurement.
        palettes: Palette of each layer.
        inputs: The network's arguments for each forward pass.

    Returns:
        For each layer, the sum of squared errors, the sum of squared outputs, and the number of outputs, (3,) in
        float64. All three are zero if the layer did not run.
    """
    device = next(network.parameters()).device
    sums = {name: torch.zeros(3, dtype=torch.float64, device=device) for name in palettes}
    hooks = [
        network.get_submodule(name).register_forward_hook(error_hook(palette, sums[name]), with_kwargs=True)
        for name, palette in palettes.items()
    ]
    try:
        for arguments in inputs:
            network(*arguments)
    finally:
        for hook in hooks:
            hook.remove()
    return sums


def error_hook(palette: Palette, sums: Tensor) -> Callable[..., None]:
    """Return a forward hook that adds the squared error, the squared output and the number of outputs to ``sums``."""

    def hook(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
        weight = layer.get_parameter("weight")
        original = weight.data
        weight.data = palette.dense().to(original.dtype)
        try:
            quantized = layer.forward(*args, **kwargs)  # calling the layer itself would run this hook again
        finally:
            weight.data = original
        sums[0] += (quantized - output).double().square().sum()
        sums[1] += output.double().square().sum()
        sums[2] += output.numel()

    return hook
