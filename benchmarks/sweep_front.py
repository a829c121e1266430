"""The engine's samplers on functions whose front is known: dominated hypervolume against random search.

ZDT1 (convex front) and ZDT2 (concave), Zitzler et al. 2000, in four dimensions, and DTLZ2 (a sphere's octant, three
objectives), Deb et al. 2002, in five; the budget is that of a small study. A figure is the hypervolume as a share of
the known front's, 1 for a search that found all of it.

    python benchmarks/sweep_front.py [--seeds N] [--json PATH]
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Literal

import numpy as np
import optuna
from tqdm import tqdm

from benchmarks.timing import announce, options, report, table
from pocketdit.config.component import Component
from sweeps.samplers import build_sampler
from sweeps.settings import Budget, Computed, FloatRange, Sampler, Sweep

TRIALS = 60
SAMPLERS: tuple[Literal["random", "tpe", "nsga2", "gp"], ...] = ("random", "tpe", "nsga2")

Function = Callable[[Sequence[float]], tuple[float, ...]]


def zdt(x: Sequence[float], power: float) -> tuple[float, ...]:
    """ZDT1 (power 1/2) and ZDT2 (power 2) of x in [0, 1]: the front is f2 = 1 - f1 ** power."""
    g = 1 + 9 * fmean(x[1:])
    return x[0], g * (1 - (x[0] / g) ** power)


def dtlz2(x: Sequence[float]) -> tuple[float, ...]:
    """Three objectives of x in [0, 1]: the front is the unit sphere's octant."""
    radius = 1 + sum((value - 0.5) ** 2 for value in x[2:])
    a, b = (math.pi / 2 * value for value in x[:2])
    return radius * math.cos(a) * math.cos(b), radius * math.cos(a) * math.sin(b), radius * math.sin(a)


@dataclass(frozen=True)
class Problem:
    """``best``: hypervolume of the known front below ``reference``."""

    function: Function
    dimensions: int
    reference: tuple[float, ...]
    best: float


# ZDT: 6 - f2 over f1 in [0, 1], and 6 over the last tenth. DTLZ2: the cube less the octant of the sphere.
PROBLEMS = {
    "ZDT1": Problem(partial(zdt, power=0.5), 4, (1.1, 6.0), 5 + 2 / 3 + 0.6),
    "ZDT2": Problem(partial(zdt, power=2.0), 4, (1.1, 6.0), 5 + 1 / 3 + 0.6),
    "DTLZ2": Problem(dtlz2, 5, (1.5, 1.5, 1.5), 1.5**3 - math.pi / 6),
}


def settings(problem: Problem, sampler: Sampler, trials: int = TRIALS) -> Sweep:
    """The problem as a study's settings."""
    names = [f"x{i}" for i in range(problem.dimensions)]
    return Sweep(
        sweep="front",
        base=Path("none"),
        space={name: FloatRange("float", 0.0, 1.0) for name in names},
        objectives={f"f{i}": Computed("computed", Component("none")) for i in range(len(problem.reference))},
        budget=Budget(trials, (1,)),
        sampler=sampler,
    )


def search(problem: Problem, sweep: Sweep) -> float:
    """Share of the known hypervolume after the budget, by the sampler that the engine builds from the settings."""
    from sweeps.space import choose

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(directions=sweep.directions, sampler=build_sampler(sweep))
    for _ in range(sweep.budget.trials):
        trial = study.ask()
        choices = choose(sweep.space, trial)
        study.tell(trial, problem.function([float(str(choices[name])) for name in sweep.space]))
    return hypervolume([trial.values for trial in study.trials], problem.reference) / problem.best


def hypervolume(points: Sequence[Sequence[float]], reference: Sequence[float]) -> float:
    """Volume below ``reference`` that the points (smaller is better) dominate; points outside add nothing."""
    from optuna._hypervolume import compute_hypervolume

    inside = np.array([p for p in points if all(v < r for v, r in zip(p, reference, strict=True))], dtype=float)
    return float(compute_hypervolume(inside, np.array(reference, dtype=float))) if len(inside) else 0.0


def compare(seeds: int, problems: Sequence[str] = tuple(PROBLEMS)) -> list[dict[str, Any]]:
    """One row for each problem and sampler: the shares of all seeds, and in how many it beat random search's."""
    rows: list[dict[str, Any]] = []
    for name in problems:
        problem = PROBLEMS[name]
        by_sampler = {}
        for kind in tqdm(SAMPLERS, desc=name, leave=False):
            sweep = settings(problem, Sampler(kind))
            seeded = [replace(sweep, sampler=replace(sweep.sampler, seed=seed)) for seed in range(seeds)]
            by_sampler[kind] = [search(problem, one) for one in seeded]
            wins = sum(a > b for a, b in zip(by_sampler[kind], by_sampler["random"], strict=True))
            rows.append({"problem": name, "sampler": kind, "shares": by_sampler[kind], "wins": wins})
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options(__doc__)
    parser.add_argument("--seeds", type=int, default=20, metavar="N")
    chosen = parser.parse_args(arguments)
    announce()
    seeds = 2 if chosen.quick else chosen.seeds
    rows = compare(seeds)
    cells = [
        [row["problem"], row["sampler"], f"{fmean(row['shares']):.3f}", f"{stdev(row['shares']):.3f}",
         f"{min(row['shares']):.3f} to {max(row['shares']):.3f}",
         "" if row["sampler"] == "random" else f"{row['wins']} of {seeds}"]
        for row in rows
    ]  # fmt: skip
    print(f"{TRIALS} trials, {seeds} seeds: hypervolume as a share of the known front's\n")
    print(table(["problem", "sampler", "mean", "deviation", "range", "better than random"], cells))
    report({"benchmark": "sweep_front", "trials": TRIALS, "rows": rows}, chosen.json)


if __name__ == "__main__":
    main()
