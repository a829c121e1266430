"""Train small twins of the paper's ladder (Fig. 3) on rendered scenes, and print their losses beside the paper's.

The twins (``experiments/ablations/ladder_*.yaml``) have the structure of ``experiments/paper/ladder_*.yaml`` with fewer
and narrower layers: A has 8 layers, B and C have stages of 2, 4 and 2 layers, and D has stages of 3, 2 and 3 layers and
is narrower than the others, as at paper scale. The U-Net has about as many parameters. All twins are trained by the
same stage, with AdamW, on the same data and noise. The FLOPs and the predicted latency at 1024x1024 are those of the
networks in ``experiments/paper``.

    python -m benchmarks.ladder_twin --runs FOLDER [--steps 1500] [--seeds 0 1 2]

Requires data/scenes (``lightning data build scenes data/scenes``). ``--steps 0`` prints the table without losses.
"""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from tabulate import tabulate

from benchmarks.twins import PRETRAIN, Variant, format_losses, train_twin, twin_parser, validation_losses
from pocketdit.backbones.spec import FULL_WIDTH, BackboneSpec, DiTSpec
from pocketdit.config.experiment import Experiment
from pocketdit.config.load import load
from pocketdit.latency.devices import find_device
from pocketdit.latency.predict import predict
from pocketdit.latency.traced_census import trace_census
from pocketdit.training.cost import parameters_by_width

EXPERIMENTS = PRETRAIN.parent
DEVICE = "iphone16promax"
LATENTS, TEXT_TOKENS, QUERY_CHUNK = (128, 128), 78, 1024
# Number of parameters in millions, latency in milliseconds, and validation loss, from Fig. 3.
FIGURE_3 = {
    "unet": (372, 274, 0.5131),
    "a": (424, 2000, 0.506),
    "b": (406, 550, 0.513),
    "c": (408, 293, 0.513),
    "d": (429, 360, 0.509),
}
TITLES = {
    "unet": "SnapGen's U-Net", "a": "(A) plain DiT", "b": "(B) three stages", "c": "(C) with ASSA", "d": "(D) enhanced",
}  # fmt: skip


def twins() -> dict[str, BackboneSpec]:
    """Return the twin of each of the paper's networks."""
    return {name: load(twin_file(name), [], Experiment, classes=False).config.backbone for name in FIGURE_3}


def twin_file(name: str) -> Path:
    """Return the experiment that trains a twin."""
    return EXPERIMENTS / "ablations" / f"ladder_{name}.yaml"


def paper_spec(name: str) -> BackboneSpec:
    """Return the network of an experiment in ``experiments/paper``."""
    return load(EXPERIMENTS / "paper" / f"ladder_{name}.yaml", [], Experiment, classes=False).config.backbone


def cost(spec: BackboneSpec) -> tuple[float, float, float]:
    """Return the parameters in millions, and the TFLOPs and predicted milliseconds of an evaluation at 1024x1024."""
    options = {"blockwise": "batched"} if isinstance(spec, DiTSpec) else {}
    census = trace_census(spec, FULL_WIDTH, LATENTS, TEXT_TOKENS, query_chunk=QUERY_CHUNK, **options)
    milliseconds = predict(census, find_device(DEVICE)).milliseconds
    return parameters_by_width(spec)[FULL_WIDTH] / 1e6, census.flops / 1e12, milliseconds


def table(losses: Mapping[str, Sequence[float]]) -> str:
    """Tabulate the paper's networks and their twins.

    Args:
        losses: For each twin, the losses of all seeds. Empty if the twins have not been trained.
    """
    rows = []
    for name, spec in twins().items():
        parameters, flops, milliseconds = cost(paper_spec(name))
        published = FIGURE_3[name]
        rows.append([
            TITLES[name], f"{parameters:.0f}", str(published[0]), f"{flops:.2f}", f"{milliseconds:.0f}",
            str(published[1]), f"{parameters_by_width(spec)[FULL_WIDTH] / 1e6:.2f}",
            format_losses(losses[name]) if losses else "", f"{published[2]:.4f}",
        ])  # fmt: skip
    headers = ["", "parameters\n(M)", "paper", "TFLOP at\n1024x1024", "predicted\n(ms)", "paper,\nmeasured",
               "twin,\nparameters (M)", "twin,\nvalidation loss", "paper"]  # fmt: skip
    return tabulate(rows, headers, tablefmt="simple", disable_numparse=True, colalign=("left", *["right"] * 8))


def pairwise(losses: Mapping[str, Sequence[float]]) -> str:
    """Describe how much the loss changes from each network to the next, and for how many seeds it falls."""
    lines = []
    for before, after in zip(losses, list(losses)[1:], strict=False):
        differences = [new - old for old, new in zip(losses[before], losses[after], strict=True)]
        falls = sum(difference < 0 for difference in differences)
        lines.append(
            f"{TITLES[before]} to {TITLES[after]}: {statistics.fmean(differences):+.4f}, "
            f"lower for {falls} of {len(differences)} seeds"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    args = twin_parser(__doc__, steps=1500).parse_args(arguments)
    losses: dict[str, list[float]] = {}
    for name in FIGURE_3 if args.steps else ():
        variant = Variant(f"ladder_{name}", file=twin_file(name))
        losses[name] = [validation_losses(train_twin(variant, seed, args))[FULL_WIDTH] for seed in args.seeds]
    print(f"\nlosses after {args.steps} steps: mean and standard deviation over {len(args.seeds)} seeds\n")
    print(table(losses))
    if losses:
        print(f"\n{pairwise(losses)}")


if __name__ == "__main__":
    main()
