"""A network's layers in palettes of two sizes (paper supplement C)."""

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from pocketdit.quantization.allocation import allocate
from pocketdit.quantization.palette import Palette, palettise, palettised_layers
from pocketdit.quantization.report import Report, describe
from pocketdit.quantization.sensitivity import output_errors


@torch.no_grad()
def mixed_palettes(
    network: nn.Module,
    inputs: Iterable[Sequence[Any]],
    average: float,
    low: int,
    high: int,
    weight_threshold: int,
    gather: Callable[[Tensor], Tensor] = lambda sums: sums,
) -> tuple[dict[str, Palette], Report]:
    """The palette of every layer above the threshold, and what they take. ``network`` stays as it is.

    ``inputs``: the network's arguments for each pass that measures sensitivity; ``gather``: adds such measurements
    up over processes, so that all come to the same bits. Raises ``ConfigError`` where the average is not to be had.
    """
    layers = palettised_layers(network, weight_threshold)
    steps = tqdm(layers.items(), desc=f"{low}-bit palettes", unit="layer", mininterval=5, file=sys.stderr)
    palettes = {name: palettise(layer.get_parameter("weight"), low) for name, layer in steps}
    sums = gather(torch.stack(list(output_errors(network, palettes, inputs).values())))
    errors = dict(zip(layers, (sums[:, 0] / sums[:, 1].clamp_min(1e-30)).tolist(), strict=True))
    weights = {name: palette.indices.numel() for name, palette in palettes.items()}
    bits = allocate(weights, errors, average, low, high)
    for name, layer in layers.items():
        if bits[name] == high:
            palettes[name] = palettise(layer.get_parameter("weight"), high)
    return palettes, describe(network, palettes, errors, low, high)


@torch.no_grad()
def put(network: nn.Module, palettes: dict[str, Palette]) -> None:
    """The palettes' dense weights into the network, in place."""
    for name, palette in palettes.items():
        network.get_submodule(name).get_parameter("weight").copy_(palette.dense())
