"""Palettizes a network's layers with two palette sizes (paper supplement C)."""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from pocketdit.quantization.allocation import Ranking, allocate_bits
from pocketdit.quantization.palette import Palette, palettize, palettized_layers
from pocketdit.quantization.report import QuantizationReport, build_report
from pocketdit.quantization.sensitivity import output_errors


@torch.no_grad()
def mixed_precision_palettes(
    network: nn.Module,
    inputs: Iterable[Sequence[Any]],
    average: float,
    low: int,
    high: int,
    weight_threshold: int,
    gather: Callable[[Tensor], Tensor] = lambda sums: sums,
    ranking: Ranking = "relative",
) -> tuple[dict[str, Palette], QuantizationReport]:
    """Compute palettes for all large layers, with more bits for the most sensitive layers.

    Args:
        network: The network, which is left unchanged.
        inputs: The network's arguments for each forward pass in which sensitivity is measured.
        average: Maximum average number of bits per weight, including the palettes.
        low: Palette bits of insensitive layers.
        high: Palette bits of sensitive layers.
        weight_threshold: Layers with at most this many weights are not palettized.
        gather: Function that sums measurements over all processes, so that every process allocates the same bits.
        ranking: Error that measures the sensitivity of a layer.

    Returns:
        The palette of each palettized layer, and the report.

    Raises:
        ConfigError: The average cannot be reached.
    """
    layers = palettized_layers(network, weight_threshold)
    progress = tqdm(layers.items(), desc=f"{low}-bit palettes", unit="layer", mininterval=5, file=sys.stderr)
    palettes = {name: palettize(layer.get_parameter("weight"), low) for name, layer in progress}
    sums = gather(torch.stack(list(output_errors(network, palettes, inputs).values())))
    errors = dict(zip(layers, (sums[:, 0] / sums[:, 1].clamp_min(1e-30)).tolist(), strict=True))
    mse = dict(zip(layers, (sums[:, 0] / sums[:, 2].clamp_min(1)).tolist(), strict=True))
    weights = {name: palette.indices.numel() for name, palette in palettes.items()}
    bits = allocate_bits(weights, errors if ranking == "relative" else mse, average, low, high)
    for name, layer in layers.items():
        if bits[name] == high:
            palettes[name] = palettize(layer.get_parameter("weight"), high)
    return palettes, build_report(network, palettes, errors, mse, low, high)


@torch.no_grad()
def apply_palettes(network: nn.Module, palettes: Mapping[str, Palette]) -> None:
    """Overwrite the network's weights in place with the palettized weights."""
    for name, palette in palettes.items():
        network.get_submodule(name).get_parameter("weight").copy_(palette.dense())
