"""What was quantised and what it takes: figures as JSON, sensitivities as a chart."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import nn

from pocketdit.files import write_atomically
from pocketdit.quantization.allocation import average_bits
from pocketdit.quantization.palette import Palette

FP16_BYTES = 2
_NAMED_LAYERS = 80


@dataclass(frozen=True)
class LayerReport:
    """``error``: MSE of the layer's output over its power when it alone is quantised to the lower bits."""

    name: str
    weights: int
    bits: int
    error: float


@dataclass(frozen=True)
class Report:
    """``layers``: in the network's order. Bytes are of packed indices, palettes and everything else in fp16.

    ``average_bits``: over the palettised weights, their palettes included. ``other_parameters``: biases, norms,
    tables and small layers, which stay in fp16.
    """

    layers: tuple[LayerReport, ...]
    other_parameters: int
    low_bits: int
    high_bits: int

    @property
    def palettised_weights(self) -> int:
        return sum(layer.weights for layer in self.layers)

    @property
    def average_bits(self) -> float:
        return average_bits({x.name: x.weights for x in self.layers}, {x.name: x.bits for x in self.layers})

    @property
    def bytes_fp16(self) -> int:
        return FP16_BYTES * (self.palettised_weights + self.other_parameters)

    @property
    def bytes_quantised(self) -> int:
        return round(self.average_bits * self.palettised_weights / 8) + FP16_BYTES * self.other_parameters

    def line(self) -> str:
        """The figures in one line."""
        high = sum(layer.bits == self.high_bits for layer in self.layers)
        return (
            f"{len(self.layers)} layers in palettes, {high} of them of {self.high_bits} bits: "
            f"{self.average_bits:.3f} bits a weight, palettes included; "
            f"{self.bytes_fp16 / 1e6:.2f} MB in fp16 -> {self.bytes_quantised / 1e6:.2f} MB "
            f"({self.other_parameters:,} parameters stay fp16)"
        )

    def to_json(self) -> str:
        names = ("average_bits", "palettised_weights", "bytes_fp16", "bytes_quantised")
        return json.dumps({name: getattr(self, name) for name in names} | asdict(self), indent=1)


def describe(
    network: nn.Module, palettes: Mapping[str, Palette], errors: Mapping[str, float], low: int, high: int
) -> Report:
    layers = tuple(LayerReport(n, p.indices.numel(), p.bits, errors[n]) for n, p in palettes.items())
    every = sum(parameter.numel() for parameter in network.parameters())
    return Report(layers, every - sum(layer.weights for layer in layers), low, high)


def draw_chart(report: Report, path: Path) -> None:
    """PNG: every layer's error, the most sensitive first, coloured by its bits."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    layers = sorted(report.layers, key=lambda layer: -layer.error)
    colours = {report.low_bits: "tab:blue", report.high_bits: "tab:orange"}
    named = len(layers) <= _NAMED_LAYERS
    figure, axis = plt.subplots(figsize=(max(8.0, 0.2 * len(layers)) if named else 12.0, 5.2))
    for bits in sorted(colours):
        places = [place for place, layer in enumerate(layers) if layer.bits == bits]
        weights = sum(layers[place].weights for place in places)
        share = f"{weights / report.palettised_weights:.0%} of the weights"
        axis.bar(places, [layers[p].error for p in places], width=0.8, color=colours[bits],
                 label=f"{bits} bits: {len(places)} layers, {share}")  # fmt: skip
    axis.set_yscale("log")
    axis.set_ylabel(f"output error at {report.low_bits} bits\n(MSE over power of the layer's output)")
    axis.grid(axis="y", alpha=0.3)
    axis.set_axisbelow(True)
    axis.set_xlim(-0.7, len(layers) - 0.3)
    if named:
        axis.set_xticks(range(len(layers)), [short(layer.name) for layer in layers], rotation=90, fontsize=8)
    else:
        axis.set_xlabel("layers, the most sensitive first")
    axis.legend(frameon=False)
    axis.set_title(
        f"Sensitivity of the layers; {report.average_bits:.2f} bits a weight, palettes included", fontsize=12
    )
    figure.tight_layout()
    write_atomically(path, lambda temporary: figure.savefig(temporary, format="png", dpi=100))
    plt.close(figure)


def short(name: str) -> str:
    """stages.1.blocks.0.attention.q -> 1.0 attention.q"""
    parts = name.split(".")
    if parts[0] == "stages":
        return f"{parts[1]}.{parts[3]} {'.'.join(parts[4:]) if parts[2] == 'blocks' else 'skip ' + parts[4]}"
    return name
