"""Compare the sweep samplers with random search on functions with a known Pareto front, by dominated hypervolume.

The functions are ZDT1 (convex front) and ZDT2 (concave front) in four dimensions (Zitzler et al. 2000), and DTLZ2 in
five dimensions (Deb et al. 2002). DTLZ2 has three objectives, and its front is an octant of the unit sphere. The number
of trials is typical of a small study. The score is the dominated hypervolume divided by that of the known front: 1
means that the search found the entire front.

    python benchmarks/sweep_front.py [--seeds N] [--json PATH]
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Literal

import optuna
from tqdm import tqdm

from benchmarks.timing import argument_parser, print_machine, table, write_result
from pocketdit.config.component import Component
from sweeps.dimensions import FloatRange
from sweeps.objectives import Computed
from sweeps.samplers import build_sampler
from sweeps.settings import Budget, Sampler, Sweep
from sweeps.space import suggest_params
from sweeps.storage.optuna_internals import hypervolume

TRIALS = 60
SAMPLERS: tuple[Literal["random", "tpe", "nsga2", "gp"], ...] = ("random", "tpe", "nsga2")

Function = Callable[[Sequence[float]], tuple[float, ...]]


def zdt(x: Sequence[float], power: float) -> tuple[float, ...]:
    """Evaluate ZDT1 (power 1/2) or ZDT2 (power 2) for x in [0, 1]. The front is f2 = 1 - f1 ** power."""
    g = 1 + 9 * fmean(x[1:])
    return x[0], g * (1 - (x[0] / g) ** power)


def dtlz2(x: Sequence[float]) -> tuple[float, ...]:
    """Evaluate DTLZ2 with three objectives for x in [0, 1]. The front is an octant of the unit sphere."""
    radius = 1 + sum((value - 0.5) ** 2 for value in x[2:])
    a, b = (math.pi / 2 * value for value in x[:2])
    return radius * math.cos(a) * math.cos(b), radius * math.cos(a) * math.sin(b), radius * math.sin(a)


@dataclass(frozen=True)
class Problem:
    """A function with a known front.

    Attributes:
        reference: The point that bounds the hypervolume.
        best: Hypervolume of the known front below ``reference``.
    """

    function: Function
    dimensions: int
    reference: tuple[float, ...]
    best: float


# The best hypervolume of ZDT is the integral of 6 - f2 over f1 in [0, 1], plus 6 * 0.1 for f1 in [1, 1.1]. The best
# hypervolume of DTLZ2 is the volume of the cube minus that of an octant of the unit ball.
PROBLEMS = {
    "ZDT1": Problem(partial(zdt, power=0.5), 4, (1.1, 6.0), 5 + 2 / 3 + 0.6),
    "ZDT2": Problem(partial(zdt, power=2.0), 4, (1.1, 6.0), 5 + 1 / 3 + 0.6),
    "DTLZ2": Problem(dtlz2, 5, (1.5, 1.5, 1.5), 1.5**3 - math.pi / 6),
}


def build_study(problem: Problem, sampler: Sampler, trials: int = TRIALS) -> Sweep:
    """Express the problem as a study."""
    return Sweep(
        sweep="front",
        base=Path("none"),
        space={f"x{i}": FloatRange("float", 0.0, 1.0) for i in range(problem.dimensions)},
        objectives={f"f{i}": Computed("computed", Component("none")) for i in range(len(problem.reference))},
        budget=Budget(trials, (1,)),
        sampler=sampler,
    )


def search(problem: Problem, sweep: Sweep) -> float:
    """Run all trials of the study with its sampler, and return the share of the best hypervolume that it reaches."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(directions=sweep.directions, sampler=build_sampler(sweep))
    for _ in range(sweep.budget.trials):
        trial = study.ask()
        params = suggest_params(sweep.space, trial)
        study.tell(trial, problem.function([float(str(params[name])) for name in sweep.space]))
    return dominated_hypervolume([trial.values for trial in study.trials], problem.reference) / problem.best


def dominated_hypervolume(points: Sequence[Sequence[float]], reference: Sequence[float]) -> float:
    """Return the volume up to ``reference`` that points dominate in minimization. Points beyond it are ignored."""
    inside = [p for p in points if all(value < limit for value, limit in zip(p, reference, strict=True))]
    return hypervolume(inside, reference) if inside else 0.0


def compare(seeds: int, problems: Sequence[str] = tuple(PROBLEMS)) -> list[dict[str, Any]]:
    """Return, for each problem and sampler, the share that each seed reaches, and how many seeds beat random search."""
    rows: list[dict[str, Any]] = []
    for name in problems:
        problem = PROBLEMS[name]
        by_sampler = {}
        for kind in tqdm(SAMPLERS, desc=name, leave=False):
            sweep = build_study(problem, Sampler(kind))
            studies = [replace(sweep, sampler=replace(sweep.sampler, seed=seed)) for seed in range(seeds)]
            by_sampler[kind] = [search(problem, study) for study in studies]
            wins = sum(a > b for a, b in zip(by_sampler[kind], by_sampler["random"], strict=True))
            rows.append({"problem": name, "sampler": kind, "shares": by_sampler[kind], "wins": wins})
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--seeds", type=int, default=20, metavar="N", help="number of seeds (default: %(default)s)")
    args = parser.parse_args(arguments)
    print_machine()
    seeds = 2 if args.quick else args.seeds
    rows = compare(seeds)
    cells = [
        [row["problem"], row["sampler"], f"{fmean(row['shares']):.3f}", f"{stdev(row['shares']):.3f}",
         f"{min(row['shares']):.3f} to {max(row['shares']):.3f}",
         "" if row["sampler"] == "random" else f"{row['wins']} of {seeds}"]
        for row in rows
    ]  # fmt: skip
    print(f"{TRIALS} trials, {seeds} seeds: hypervolume as a share of the known front's\n")
    print(table(["problem", "sampler", "mean", "std. dev.", "range", "better than random"], cells))
    write_result({"benchmark": "sweep_front", "trials": TRIALS, "rows": rows}, args.json)


if __name__ == "__main__":
    main()
