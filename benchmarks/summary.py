"""Print a table that compares the ratios of all benchmarks with their targets.

    python -m benchmarks.summary FOLDER

``make bench`` runs this script last, after each benchmark has written its result to ``FOLDER/NAME.json``.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.timing import Ratio, table, verdict


@dataclass(frozen=True)
class Target:
    """A ratio and its target.

    Attributes:
        benchmark: Name of the benchmark and of its JSON file.
        title: What the ratio compares.
        ratio: Keys that lead to the ratio in the file, outermost first.
        required: The target, or its key in the file.
        at_most: Whether the target is an upper limit instead of a lower limit.
    """

    benchmark: str
    title: str
    ratio: tuple[str, ...] = ("ratio",)
    required: str | float = "required"
    at_most: bool = False


TARGETS = (
    Target("attention", "full attention / ASSA, time at 4096 tokens"),
    Target("forward", "ladder A / D, time over FLOPs"),
    Target("forward", "PixArt / ladder D, time", ("peers", "PixArt"), 1.0),
    Target("forward", "Sana / ladder D, time", ("peers", "Sana"), 1.0),
    Target("elastic_step", "elastic step / two separate steps, time", at_most=True),
    Target("elastic_step", "elastic step / two separate steps, memory", ("memory_ratio",), "required_memory", True),
    Target("training_step", "elastic step / its floor, time", at_most=True),
    Target("loader", "WebDataset / data module, time in the worst case"),
    Target("streaming", "data module with an empty cache / plain download, MB/s"),
    Target("streaming", "data module / plain download, MB/s in the middle half of the pass", ("sustained",)),
    Target("frechet", "clean-fid / ours, time at 2048 dimensions"),
    Target("tiny_decoder", "fastest published decoder / tiny decoder, time"),
    Target("sweep_engine", "one worker / two workers, time"),
    Target("plan_memory", "largest deviation of the estimated memory", at_most=True),
    Target("startup", "slowest help or incorrect use, seconds", ("help and incorrect use",), 1.0, True),
    Target("startup", "run --plan of the default, seconds", ("plan",), 5.0, True),
    Target("sweep_engine", "overhead per trial, seconds", ("overhead",), "max_overhead", True),
)


def read_ratio(value: Any) -> tuple[float, str]:
    """Return a ratio as a number and as text. A ratio is stored as a number, or as its median and range."""
    if isinstance(value, dict):
        ratio = Ratio(**value)
        return ratio.median, str(ratio)
    return float(value), f"{value:.2f}"


def row(target: Target, folder: Path) -> list[str]:
    """Return the row of a target: benchmark, title, ratio, target, and whether it is met."""
    file = folder / f"{target.benchmark}.json"
    cells = [target.benchmark, target.title]
    if not file.is_file():
        return [*cells, "not measured", "", ""]
    result: Any = json.loads(file.read_text())
    value = result
    for key in target.ratio:
        value = value[key]
    required = result[target.required] if isinstance(target.required, str) else target.required
    number, text = read_ratio(value)
    met = number <= required if target.at_most else number >= required
    return [*cells, text, f"{'at most' if target.at_most else 'at least'} {required:g}", verdict(met)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="folder with the JSON files of the benchmarks")
    args = parser.parse_args(arguments)
    print(table(["benchmark", "ratio of", "measured", "target", ""], [row(target, args.folder) for target in TARGETS]))


if __name__ == "__main__":
    main()
