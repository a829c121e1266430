"""Compare the memory that ``lightning run --plan`` estimates with the peak memory of short runs of five experiments.

    python -m benchmarks.plan_memory [--steps N] [--experiment NAME ...] [--json PATH]

Every experiment is trained for a few steps on rendered scenes, in a separate process, after its parents. With a GPU,
the peak is that of the memory allocated on it, and otherwise that of the training process's resident set. Worker
processes of the data module are not included.
"""

import json
import sys
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pocketdit  # noqa: F401  (first, so that torchvision can be imported beside a CPU build of torch)

# isort: split
from benchmarks.timing import Ratio, argument_parser, print_machine, run_child, table, verdict, write_result
from pocketdit.commands.main import main as lightning
from pocketdit.config.experiment import kind_of
from pocketdit.config.load import load
from pocketdit.memory import peak_bytes

EXPERIMENTS = Path(__file__).parent.parent / "experiments"
CHILD = "--child"
COMPARED = ("elastic_pretrain", "knowledge_distill", "step_distill", "quantize_finetune", "tiny_decoder")
REQUIRED = 0.1  # largest deviation of an estimate, as a fraction of the peak


def settings(folder: Path, steps: int) -> list[str]:
    """Return the overrides that all runs share."""
    return [
        f"data.init_args.path={folder / 'scenes'}",
        f"runs={folder / 'runs'}",
        f"tracking.uri=sqlite:///{folder / 'tracking.db'}",
        f"training.max_steps={steps}",
    ]


def estimate(experiment: str, overrides: Sequence[str]) -> int:
    """Return the memory in bytes that ``--plan`` estimates."""
    from pocketdit.running.cost_estimate import estimated_memory

    path = EXPERIMENTS / f"{experiment}.yaml"
    return estimated_memory(load(path, overrides, kind_of(path)).config)


def peak(experiment: str, overrides: Sequence[str]) -> int:
    """Train an experiment in this process, and return the process's peak memory in bytes."""
    from pocketdit.running.fit import run

    path = EXPERIMENTS / f"{experiment}.yaml"
    with redirect_stdout(sys.stderr):
        run(load(path, overrides, kind_of(path)), None, None, False)
    return peak_bytes()


def compare(experiment: str, overrides: Sequence[str]) -> dict[str, Any]:
    """Train an experiment and, if it is in ``COMPARED``, estimate its memory, in two separate processes."""
    measured = int(run_child(__file__, CHILD, "peak", experiment, *overrides))
    if experiment not in COMPARED:
        return {"experiment": experiment, "peak": measured}
    estimated = int(run_child(__file__, CHILD, "estimate", experiment, *overrides))
    return {"experiment": experiment, "peak": measured, "estimate": estimated, "deviation": estimated / measured - 1}


def main(arguments: Sequence[str] | None = None) -> None:
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments[:1] == [CHILD]:  # prints one number for the parent process
        print(json.dumps({"peak": peak, "estimate": estimate}[arguments[1]](arguments[2], arguments[3:])))
        return
    # Not imported at the top, because this module's imports would add to the memory of the child processes.
    from benchmarks.training_step import NAMES, QUICK

    parser = argument_parser(__doc__)
    parser.add_argument("--steps", type=int, default=40, help="training steps per run (default: 40)")
    parser.add_argument(
        "--experiment", action="append", choices=NAMES, help="measure only this experiment and those before it"
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="overrides for all runs")
    args = parser.parse_args(arguments)
    print_machine()
    names: Sequence[str] = NAMES[:1] if args.quick else NAMES
    if args.experiment:
        names = NAMES[: max(map(NAMES.index, args.experiment)) + 1]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with redirect_stdout(sys.stderr):
            train = "16" if args.quick else "2000"
            lightning(["data", "build", "scenes", str(folder / "scenes"), "--train", train, "--validation", "96"])
        overrides = [
            *settings(folder, 2 if args.quick else args.steps),
            *(QUICK if args.quick else []),
            *args.overrides,
        ]
        rows = [row for item in names if "estimate" in (row := compare(item, overrides))]
    cells = [
        [
            row["experiment"],
            *(f"{row[key] / 2**20:,.0f} MiB" for key in ("estimate", "peak")),
            f"{row['deviation']:+.0%}",
        ]
        for row in rows
    ]
    print(table(["experiment", "estimate", "peak", "deviation"], cells))
    deviations = sorted(abs(row["deviation"]) for row in rows)
    ratio = Ratio(deviations[-1], deviations[0], deviations[-1])
    met = ratio.median <= REQUIRED
    print(f"ratio: largest deviation {ratio} (at most {REQUIRED}): {verdict(met)}")
    write_result(
        {"benchmark": "plan_memory", "rows": rows, "ratio": ratio, "required": REQUIRED, "met": met}, args.json
    )


if __name__ == "__main__":
    main()
