"""Compare the paper's ranking of layers by sensitivity to quantization with ours.

    python -m benchmarks.quantization_rankings quantize_finetune [--runs runs]

The paper assigns 8 bits to the layers with the largest mean squared error of the output (supplement C). We divide this
error by the mean square of the output, because the scales of the layers' outputs differ. This script reads the errors
that a run of ``quantize_finetune`` measured. It prints both rankings, the layers to which each of them would assign
more bits at the same average, and how much the rankings agree.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scipy.stats import spearmanr

from benchmarks.timing import table
from pocketdit.artifacts.run_folder import find
from pocketdit.errors import RunError, UserError
from pocketdit.quantization.allocation import allocate_bits
from pocketdit.quantization.report import LayerReport, short_name


@dataclass(frozen=True)
class Comparison:
    """Both rankings of a network's layers.

    Attributes:
        layers: All layers, in order of decreasing relative error.
        high: Number of bits for sensitive layers.
        relative: Number of bits of each layer, as allocated by relative error.
        mse: Number of bits of each layer, as allocated by mean squared error.
    """

    layers: tuple[LayerReport, ...]
    high: int
    relative: dict[str, int]
    mse: dict[str, int]

    @property
    def differing(self) -> tuple[LayerReport, ...]:
        """Layers to which only one of the rankings assigns more bits."""
        return tuple(layer for layer in self.layers if self.relative[layer.name] != self.mse[layer.name])


def compare(file: Path) -> Comparison:
    """Read the report of a quantized run, and allocate bits by each ranking so that their average equals the run's.

    Raises:
        RunError: The run is not quantized, or an earlier version of PocketDiT quantized it.
    """
    try:
        content = json.loads(file.read_text())
        layers = [LayerReport(**layer) for layer in content["layers"]]
        average, low, high = content["average_bits"], content["low_bits"], content["high_bits"]
    except OSError as error:
        raise RunError(f"{file}: cannot be read ({error.strerror}); specify a run of quantize_finetune") from error
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{file}: has no mean squared errors ({error!r}); quantize the run again") from error
    weights = {layer.name: layer.weights for layer in layers}
    by_relative, by_mse = ({x.name: x.error for x in layers}, {x.name: x.mse for x in layers})
    return Comparison(
        tuple(sorted(layers, key=lambda layer: (-layer.error, layer.name))),
        high,
        allocate_bits(weights, by_relative, average, low, high),
        allocate_bits(weights, by_mse, average, low, high),
    )


def rankings_table(comparison: Comparison) -> str:
    """Tabulate both rankings and the number of bits that each assigns to each layer."""
    by_mse = sorted(comparison.layers, key=lambda layer: (-layer.mse, layer.name))
    rank = {layer.name: number for number, layer in enumerate(by_mse, 1)}
    rows = [
        [
            number, rank[layer.name], short_name(layer.name), f"{layer.weights:,}", f"{layer.error:.2e}",
            f"{layer.mse:.2e}", comparison.relative[layer.name], comparison.mse[layer.name],
            "differs" if layer in comparison.differing else "",
        ]
        for number, layer in enumerate(comparison.layers, 1)
    ]  # fmt: skip
    header = ["rank, relative", "rank, MSE", "layer", "weights", "relative", "MSE", "bits", "bits, MSE", ""]
    return table(header, rows)


def summary(comparison: Comparison) -> str:
    """Summarize how much the rankings agree."""
    chosen = {
        name: [short_name(layer.name) for layer in comparison.layers if bits[layer.name] == comparison.high]
        for name, bits in (("relative error", comparison.relative), ("MSE", comparison.mse))
    }
    lines = [f"{comparison.high} bits by {name}: {', '.join(layers) or 'none'}" for name, layers in chosen.items()]
    both = len(set(chosen["relative error"]) & set(chosen["MSE"]))
    agreement = spearmanr([x.error for x in comparison.layers], [x.mse for x in comparison.layers]).statistic
    return "\n".join([*lines, f"in both: {both}; rank correlation over all layers: {agreement:.2f}"])


def main(arguments: Sequence[str] | None = None) -> None:
    """Print both rankings."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", help="run of quantize_finetune")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs (default: %(default)s)")
    args = parser.parse_args(arguments)
    try:
        comparison = compare(find(args.runs, args.run).path / "quantization.json")
    except UserError as error:
        sys.exit(f"quantization_rankings: {error}")
    print(rankings_table(comparison))
    print(summary(comparison))


if __name__ == "__main__":
    main()
