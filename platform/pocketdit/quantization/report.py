"""Report on a quantized network: bits and sizes as JSON, and layer sensitivities as a plot."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import nn

from pocketdit.files import write_atomically
from pocketdit.quantization.allocation import average_bits
from pocketdit.quantization.palette import Palette

FP16_BYTES = 2
_MAX_NAMED_LAYERS = 80


@dataclass(frozen=True)
class LayerReport:
    """One palettized layer.

    Attributes:
        name: Name of the layer in the network.
        weights: Number of weights in the layer.
        bits: Palette bits of the layer.
        error: Mean squared error of the layer's output, relative to the mean square of the output, when only this layer
            is quantized to the lower number of bits.
        mse: The same mean squared error, but not divided by the mean square of the output.
    """

    name: str
    weights: int
    bits: int
    error: float
    mse: float


@dataclass(frozen=True)
class QuantizationReport:
    """Bits and sizes of a quantized network.

    Attributes:
        layers: The palettized layers in the order in which the network defines them.
        other_parameters: Number of all other parameters (biases, norms, tables, and small layers), which stay in fp16.
        low_bits: Palette bits of insensitive layers.
        high_bits: Palette bits of sensitive layers.
    """

    layers: tuple[LayerReport, ...]
    other_parameters: int
    low_bits: int
    high_bits: int

    @property
    def palettized_weights(self) -> int:
        """Number of palettized weights."""
        return sum(layer.weights for layer in self.layers)

    @property
    def average_bits(self) -> float:
        """Average number of bits per palettized weight, including the palettes."""
        return average_bits({x.name: x.weights for x in self.layers}, {x.name: x.bits for x in self.layers})

    @property
    def bytes_fp16(self) -> int:
        """Size of all parameters in fp16, in bytes."""
        return FP16_BYTES * (self.palettized_weights + self.other_parameters)

    @property
    def bytes_quantized(self) -> int:
        """Size of the packed indices, the palettes, and all other parameters in fp16, in bytes."""
        return round(self.average_bits * self.palettized_weights / 8) + FP16_BYTES * self.other_parameters

    def summary(self) -> str:
        """Summarize the report in one line."""
        high = sum(layer.bits == self.high_bits for layer in self.layers)
        return (
            f"{len(self.layers)} layers palettized, {high} of them with {self.high_bits} bits: "
            f"{self.average_bits:.3f} bits per weight, palettes included; "
            f"{self.bytes_fp16 / 1e6:.2f} MB in fp16 -> {self.bytes_quantized / 1e6:.2f} MB "
            f"({self.other_parameters:,} parameters stay in fp16)"
        )

    def to_json(self) -> str:
        """Return the report as JSON, including the totals and all layers."""
        names = ("average_bits", "palettized_weights", "bytes_fp16", "bytes_quantized")
        return json.dumps({name: getattr(self, name) for name in names} | asdict(self), indent=1)


def build_report(
    network: nn.Module,
    palettes: Mapping[str, Palette],
    errors: Mapping[str, float],
    mse: Mapping[str, float],
    low: int,
    high: int,
) -> QuantizationReport:
    """Build the report on a network's palettes.

    Args:
        network: The network.
        palettes: Palette of each layer.
        errors: Relative output error of each layer at ``low`` bits.
        mse: Mean squared output error of each layer at ``low`` bits.
        low: Palette bits of insensitive layers.
        high: Palette bits of sensitive layers.
    """
    layers = tuple(LayerReport(n, p.indices.numel(), p.bits, errors[n], mse[n]) for n, p in palettes.items())
    total = sum(parameter.numel() for parameter in network.parameters())
    return QuantizationReport(layers, total - sum(layer.weights for layer in layers), low, high)


def plot_sensitivity(report: QuantizationReport, path: Path) -> None:
    """Write a PNG bar chart of all layers' errors, most sensitive layer first, colored by the number of bits."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    layers = sorted(report.layers, key=lambda layer: -layer.error)
    colors = {report.low_bits: "tab:blue", report.high_bits: "tab:orange"}
    named = len(layers) <= _MAX_NAMED_LAYERS
    figure, axis = plt.subplots(figsize=(max(8.0, 0.2 * len(layers)) if named else 12.0, 5.2))
    for bits in sorted(colors):
        positions = [index for index, layer in enumerate(layers) if layer.bits == bits]
        weights = sum(layers[index].weights for index in positions)
        share = f"{weights / report.palettized_weights:.0%} of the weights"
        axis.bar(positions, [layers[index].error for index in positions], width=0.8, color=colors[bits],
                 label=f"{bits} bits: {len(positions)} layers, {share}")  # fmt: skip
    axis.set_yscale("log")
    axis.set_ylabel(f"output error at {report.low_bits} bits\n(MSE relative to the mean square of the layer's output)")
    axis.grid(axis="y", alpha=0.3)
    axis.set_axisbelow(True)
    axis.set_xlim(-0.7, len(layers) - 0.3)
    if named:
        axis.set_xticks(range(len(layers)), [short_name(layer.name) for layer in layers], rotation=90, fontsize=8)
    else:
        axis.set_xlabel("layers, most sensitive first")
    axis.legend(frameon=False)
    axis.set_title(f"Layer sensitivity ({report.average_bits:.2f} bits per weight, palettes included)", fontsize=12)
    figure.tight_layout()
    write_atomically(path, lambda temporary: figure.savefig(temporary, format="png", dpi=100))
    plt.close(figure)


def short_name(name: str) -> str:
    """Abbreviate a layer's name. For example, stages.1.blocks.0.attention.q becomes 1.0 attention.q."""
    parts = name.split(".")
    if parts[0] == "stages":
        return f"{parts[1]}.{parts[3]} {'.'.join(parts[4:]) if parts[2] == 'blocks' else 'skip ' + parts[4]}"
    return name
