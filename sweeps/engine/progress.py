"""The progress line of a running study, and the table of its results."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from tabulate import tabulate

from pocketdit.progress import ProgressLine
from sweeps.settings import Sweep
from sweeps.storage.records import TrialRecord
from sweeps.storage.results import Candidate, best_candidates, comparable


class StudyProgress:
    """Shows the number of trials in each state, the best values so far, and the remaining time on one line."""

    def __init__(self, sweep: Sweep) -> None:
        self.sweep = sweep
        budget = sweep.budget
        # Progress is counted in optimizer steps so that the remaining time accounts for longer trials.
        rungs = zip(budget.promote, budget.steps, budget.steps[1:], strict=False)
        promotions = sum(count * (after - before) for count, before, after in rungs)
        finals = budget.finalists * len(budget.seeds) * budget.steps[-1]
        self.total = budget.trials * budget.steps[0] + promotions + finals
        self.line: ProgressLine | None = None

    def show(self, candidates: Sequence[Candidate], running: int, steps: int) -> None:
        """Update the line.

        Args:
            candidates: All candidates so far.
            running: Number of running trials.
            steps: Optimizer steps of all trials that have ended.
        """
        if self.line is None:
            self.line = ProgressLine(
                "{desc} {percentage:3.0f}% ETA {remaining}{postfix}",
                desc=self.sweep.sweep,
                unit="step",
                total=self.total,
                initial=steps,
                smoothing=0,
            )
        states = Counter(candidate.state for candidate in candidates)
        done = states["complete"] + states["pruned"] + states["failed"]
        parts = [f"{done}/{self.sweep.budget.trials} trials, {running} running"]
        parts += [f"{states[state]} {state}" for state in ("pruned", "infeasible", "failed") if states[state]]
        self.line.advance(steps, "; ".join([*parts, summary(self.sweep, candidates)]))

    def close(self) -> None:
        """Leave the line as it is and stop updating it."""
        if self.line is not None:
            self.line.close()


def trained_steps(sweep: Sweep, search: list[TrialRecord], promoted: list[TrialRecord]) -> int:
    """Count the optimizer steps of all trials that have ended. Pruned and failed trials count in full."""
    ended = [r.attrs for r in (*search, *promoted) if r.outcome in ("complete", "pruned", "failed")]
    # A promoted trial resumes from the previous rung, so it does not repeat those steps.
    resumed_from = {steps: earlier for earlier, steps in pairwise(sweep.budget.steps)}
    return sum(
        attrs["steps"] - (resumed_from.get(attrs["steps"], 0) if attrs["seed"] == sweep.seed else 0)
        for attrs in ended
        if "steps" in attrs
    )


def summary(sweep: Sweep, candidates: Sequence[Candidate]) -> str:
    """Describe the best value, or the size of the front and the range of each objective on it."""
    points = [best.values for best in best_candidates(sweep, candidates) if best.values is not None]
    if not points:
        return "no complete trials yet"
    ranges = [
        f"{name} {_range([point[index] for point in points])}{f' {o.unit}' if o.unit else ''}"
        for index, (name, o) in enumerate(sweep.objectives.items())
    ]
    return f"front of {len(points)}: {', '.join(ranges)}" if len(sweep.objectives) > 1 else f"best {ranges[0]}"


def table(sweep: Sweep, candidates: Sequence[Candidate]) -> str:
    """Tabulate the best candidates and the baselines with their objectives, steps and parameters."""
    rows = best_candidates(sweep, candidates)
    rows += [other for other in comparable(candidates) if other.baseline and other not in rows]
    objectives = [f"{name} ({o.unit})" if o.unit else name for name, o in sweep.objectives.items()]
    return tabulate(
        [[row.number, *_objective_cells(row), row.steps, _params_cell(row)] for row in rows],
        headers=["trial", *objectives, "steps", "parameters"],
        tablefmt="plain",
        disable_numparse=True,
        colalign=("right", *["right"] * len(objectives), "right", "left"),
    )


def _objective_cells(candidate: Candidate) -> list[str]:
    spread = candidate.spread or (0.0,) * len(candidate.values or ())
    return [
        f"{value:.4g} ± {deviation:.1g}" if deviation else f"{value:.4g}"
        for value, deviation in zip(candidate.values or (), spread, strict=True)
    ]


def _params_cell(candidate: Candidate) -> str:
    params = ", ".join(
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in candidate.params.items()
    )
    return params + (" (baseline)" if candidate.baseline else "")


def _range(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
