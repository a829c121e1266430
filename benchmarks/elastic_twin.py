"""Repeat the paper's Table 1, standalone versus elastic training, with small networks on rendered scenes.

The supernet is the one in ``experiments/elastic_pretrain.yaml`` with the widths 0.5x and 1x, which represent the
paper's 0.4B and 1.6B models. The standalone networks have the same architecture as the sub-networks, including the
width of the text tokens. All networks are trained on the same data and noise for the same number of steps. The feature
distance is the metric of the embedded evaluation, not DINO-FID. The footprint is the growth of a process's peak memory
while it builds a network and trains it for three steps. It includes weights, EMA, gradients, optimizer state and
activations (``benchmarks/elastic_step.py``).

    python -m benchmarks.elastic_twin --runs FOLDER [--steps 1500] [--seeds 0 1 2] [--images 240]

Requires data/scenes (``lightning data build scenes data/scenes``). To repeat the table at paper scale, train
``experiments/paper/ladder_d.yaml``, ``standalone_full.yaml`` and ``elastic_imagenet.yaml``, and score each run with
``experiments/eval/dino_fid.yaml``.
"""

import argparse
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tabulate import tabulate

import pocketdit
from benchmarks import elastic_step
from benchmarks.timing import run_child
from benchmarks.twins import Variant, format_losses, train_twin, twin_parser, validation_losses
from pocketdit.api import Run

HALF, FULL = 0.5, 1.0


class Row(NamedTuple):
    """A row of the table.

    Attributes:
        recipe: How the network is trained, as in Table 1.
        variant: Experiment that trains the network.
        width: Relative width at which the run is evaluated.
        network: Name in ``elastic_step.NETWORKS`` of the network whose memory is measured; empty for none.
        published: Validation loss, DINO-FID and footprint in Table 1.
    """

    recipe: str
    variant: Variant
    width: float
    network: str
    published: tuple[float, int, str]


STANDALONE_HALF = Variant("standalone_half", ("backbone.width=128", "backbone.widths=[1.0]"))
STANDALONE_FULL = Variant("standalone_full", ("backbone.widths=[1.0]",))
ELASTIC = Variant("elastic", ("backbone.widths=[0.5, 1.0]",))
ROWS = (
    Row("standalone", STANDALONE_HALF, FULL, "half", (0.5090, 128, "6.6 GB")),
    Row("standalone", STANDALONE_FULL, FULL, "full", (0.5073, 109, "18.8 GB")),
    Row("elastic", ELASTIC, HALF, "", (0.5093, 125, "-")),
    Row("elastic", ELASTIC, FULL, "elastic", (0.5071, 110, "18.8 GB")),
)
MODELS = ("0.5x (0.4B)", "1x (1.6B)", "0.5x (0.4B)", "1x (1.6B)")


def feature_distance(run: Run, width: float, args: argparse.Namespace) -> float:
    """Return the Fréchet distance between sampled images and training images in the feature space for scenes."""
    folder = Path(args.runs) / "evaluations"
    subject = {"run": str(run.folder.path), "width": width, "steps": 24, "guidance": 2.0}
    metric = {
        "prompts": "scenes",
        "encoder": {"class_path": "evaluation.scenes.encoders.features.SceneFeatures"},
        "reference": str(args.data),
        "reference_samples": 2000,
        "kept": str(folder / "references"),
    }
    report = pocketdit.evaluate(
        {
            "evaluation": f"{run.name.replace('/', '_')}_{width:g}x",
            "subject": {"class_path": "evaluation.subjects.run.Run", "init_args": subject},
            "prompts": {
                "scenes": {
                    "class_path": "evaluation.prompts.scenes.SceneGenEval",
                    "init_args": {"count": args.images},
                }
            },
            "metrics": [{"class_path": "evaluation.metrics.feature_distance.FeatureDistance", "init_args": metric}],
            "out": str(folder),
            "tracking": {"uri": f"sqlite:///{args.runs}/mlflow.db"},
        }
    )
    assert report is not None  # evaluate returns None only on ranks other than 0
    return report.results[0].scores["overall"].value


def footprint(network: str) -> str:
    """Measure how much the peak memory of a process grows while it trains a network, and format the result."""
    if not network:
        return "-"
    grown = run_child(str(Path(elastic_step.__file__)), "--peak-of", network, "--case", "embedded")
    return f"{grown / 2**20:.0f} MiB"


def table(losses: Sequence[Sequence[float]], distances: Sequence[Sequence[float]], memory: Sequence[str]) -> str:
    """Format the table like the paper's Table 1.

    Args:
        losses: For each row, the validation losses of all seeds.
        distances: For each row, the feature distances of all seeds, or an empty list if they were not measured.
        memory: Footprint of each row.
    """
    cells = []
    for row, model, loss, distance, used in zip(ROWS, MODELS, losses, distances, memory, strict=True):
        shown = f"{statistics.fmean(distance):.2f}" if distance else "-"
        published_loss, published_distance, published_footprint = row.published
        cells.append([
            row.recipe, model, format_losses(loss), shown, used,
            f"{published_loss:.4f}", str(published_distance), published_footprint,
        ])  # fmt: skip
    headers = ["training recipe", "model", "validation\nloss", "feature\ndistance", "training\nfootprint",
               "paper:\nval loss", "paper:\nDINO-FID", "paper:\nfootprint"]  # fmt: skip
    return tabulate(cells, headers, tablefmt="simple", disable_numparse=True, colalign=("left", "left", *["right"] * 6))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = twin_parser(__doc__, steps=1500)
    parser.add_argument("--images", type=int, default=240, help="images per network; 0 skips the feature distance")
    args = parser.parse_args(arguments)
    runs: Mapping[str, list[Run]] = {
        variant.name: [train_twin(variant, seed, args) for seed in args.seeds]
        for variant in (STANDALONE_HALF, STANDALONE_FULL, ELASTIC)
    }
    losses = [[validation_losses(run)[row.width] for run in runs[row.variant.name]] for row in ROWS]
    distances = [
        [feature_distance(run, row.width, args) for run in runs[row.variant.name] if args.images] for row in ROWS
    ]
    memory = [footprint(row.network) for row in ROWS]
    print(f"\n{args.steps} steps, mean and standard deviation over {len(args.seeds)} seeds\n")
    print(table(losses, distances, memory))


if __name__ == "__main__":
    main()
