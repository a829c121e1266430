"""Train variants of an embedded experiment with several seeds, and read their validation losses.

The benchmarks that repeat a table of the paper with small networks on rendered scenes share these functions. A finished
run is not trained again, and an interrupted run is resumed, so an interrupted benchmark continues where it stopped.
"""

import argparse
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pocketdit
from pocketdit.api import Run
from pocketdit.errors import RunError
from pocketdit.tracking.journal import read_metrics

PRETRAIN = Path(__file__).parent.parent / "experiments" / "elastic_pretrain.yaml"

Losses = Mapping[float, float]
"""The last validation loss at each width."""


@dataclass(frozen=True)
class Variant:
    """An experiment with overrides.

    Attributes:
        name: Name of the experiment and of its folder.
        overrides: Overrides of the YAML file's settings.
        file: YAML file of the experiment.
    """

    name: str
    overrides: tuple[str, ...] = ()
    file: Path = PRETRAIN


def twin_parser(description: str | None, steps: int) -> argparse.ArgumentParser:
    """Return a parser for the options that these benchmarks share. ``steps`` is the default value of ``--steps``."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=steps, help="training steps per run (default: %(default)s)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds (default: 0 1 2)")
    parser.add_argument("--data", type=Path, default=Path("data/scenes"), help="data set (default: %(default)s)")
    parser.add_argument("--runs", type=Path, required=True, help="folder of the runs; existing ones are resumed")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="overrides for all runs")
    return parser


def train_twin(variant: Variant, seed: int, args: argparse.Namespace) -> Run:
    """Train a variant with one seed. If its run exists, resume it unless it is finished, and return it.

    Args:
        variant: The variant.
        seed: Seed of the weights, the order of the data, and the noise.
        args: The options of ``twin_parser``.

    Raises:
        UserError: The settings are invalid, or differ from those of the existing run.
    """
    overrides = [
        f"experiment={variant.name}",
        f"seed={seed}",
        f"runs={args.runs}",
        f"tracking.uri=sqlite:///{args.runs}/mlflow.db",
        f"data.init_args.path={args.data}",
        f"training.max_steps={args.steps}",
        f"training.validate_every={args.steps}",
        "training.sample_every=0",
        "sampling.steps=4",
        "sampling.prompts=[a red circle]",
        *variant.overrides,
        *args.set,
    ]
    return pocketdit.train(variant.file, overrides, resume=True, name=f"seed_{seed}")


def validation_losses(run: Run) -> Losses:
    """Return the last validation loss of a run at each width.

    Raises:
        RunError: The run has not been validated.
    """
    curves = read_metrics(run.folder.metrics)
    keys = {width: f"validation/loss/width_{width:g}" for width in run.widths}
    if missing := [key for key in keys.values() if not curves.get(key)]:
        raise RunError(f"{run.name}: metrics.jsonl does not contain {missing[0]}")
    return {width: curves[key][-1][1] for width, key in keys.items()}


def format_losses(values: Sequence[float]) -> str:
    """Format the losses of all seeds as their mean and, if there are several, their standard deviation."""
    mean = f"{statistics.fmean(values):.4f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.4f}"
