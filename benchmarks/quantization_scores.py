"""Score each width before quantization, with palettes, and after fine-tuning, for both rankings of the layers.

    python -m benchmarks.quantization_scores --start step_distill/k-0 step_distill/k-1 step_distill/k-2

Quantizes each width of the starting runs as experiments/quantize_finetune.yaml does, once without and once with
fine-tuning, and scores their samples with the rules for rendered scenes. If there is one starting run per seed, the
seeds also differ in the network. With the default settings, this trains 36 runs, each for at most five minutes on one
CPU core, and scores 45 sets of 1000 images. If it is interrupted, run it again to resume: finished runs and images are
reused.
"""

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from benchmarks.few_steps import METRIC, Entry, score_entry
from benchmarks.timing import table
from pocketdit.api import train
from pocketdit.artifacts.run_folder import RunFolder, find
from pocketdit.errors import ConfigError, UserError
from pocketdit.latency.deployments import bits_of
from pocketdit.quantization.allocation import Ranking

EXPERIMENT = Path(__file__).parent.parent / "experiments" / "quantize_finetune.yaml"
# A single step, with a learning rate that is too small to change a float32 weight.
UNTUNED = ("training.max_steps=1", "optimizer.init_args.lr=1e-30")


def quantized_run(
    start: str, width: float, ranking: Ranking, seed: int, tuned: bool, args: argparse.Namespace
) -> str:  # fmt: skip
    """Quantize one width of a run unless that was done before, and return the name of the quantized run."""
    name = f"{start.replace('/', '-')}-{width:g}x-{ranking}-{seed}-{'tuned' if tuned else 'palettes'}"
    folder = RunFolder(args.runs / "quantize_finetune" / name)
    overrides = [
        f"runs={args.runs}",
        f"parents.start={start}",
        f"backbone.widths=[{width:g}]",
        f"seed={seed}",
        f"stage.init_args.ranking={ranking}",
        *args.set,
        *(() if tuned else UNTUNED),
    ]
    # A finished run is not trained again, but is refused if its settings differ.
    exists = folder.config.is_file()
    train(EXPERIMENT, overrides, resume=folder.name if exists else None, name=None if exists else name)
    return folder.name


def scores_of(runs: Sequence[str], width: float, args: argparse.Namespace) -> list[float]:
    """Return the score of each run at one width."""
    return score_entry(Entry("", tuple(runs), None, None), (width,), args.count, args.runs, args.out)[width]


def describe(values: Sequence[float]) -> str:
    """Return the mean and, with several values, the standard deviation."""
    return f"{statistics.mean(values):.3f}" + (f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else "")


def compare(args: argparse.Namespace) -> str:
    """Train and score everything, and return the table."""
    starts = [find(args.runs, run).name for run in args.start]
    rows = []
    for width in args.width:
        before = describe(scores_of(starts, width, args))
        for ranking in args.ranking:
            names = {
                tuned: [
                    quantized_run(starts[seed % len(starts)], width, ranking, seed, tuned, args)
                    for seed in range(args.seeds)
                ]
                for tuned in (False, True)
            }
            bits = statistics.mean(bits_of(find(args.runs, name)) for name in names[True])
            scores = [describe(scores_of(names[tuned], width, args)) for tuned in (False, True)]
            rows.append([f"{width:g}x", ranking, f"{bits:.3f}", before, *scores])
    header = ["width", "8 bits by", "bits", "not quantized", "palettes", "fine-tuned"]
    return f"{METRIC}, {args.count} captions, {args.seeds} seeds\n{table(header, rows)}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--start", nargs="+", default=["step_distill"], help="runs to quantize, one per seed")
    parser.add_argument("--width", type=float, nargs="+", default=[0.375, 0.5, 1.0], help="widths to quantize")
    parser.add_argument("--ranking", nargs="+", choices=get_args(Ranking), default=list(get_args(Ranking)))
    parser.add_argument("--seeds", type=int, default=3, help="quantized runs per row (default: %(default)s)")
    parser.add_argument("--count", type=int, default=1000, help="number of captions (default: %(default)s)")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("evaluations"), help="folder for the sampled images")
    parser.add_argument("--set", nargs="*", default=[], metavar="key=value", help="overrides for all runs")
    args = parser.parse_args(arguments)
    try:
        if args.seeds < 1 or args.count < 1:
            raise ConfigError("--seeds and --count must be at least 1")
        print(compare(args))
    except UserError as error:
        print(f"quantization_scores: {error}", file=sys.stderr)
        return error.status
    return 0


if __name__ == "__main__":
    sys.exit(main())
