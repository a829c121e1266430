"""What a study says while it runs, and its table at the end."""

import sys
from collections import Counter
from collections.abc import Sequence

from tqdm import tqdm

from sweeps.results import Candidate, best, comparable
from sweeps.settings import Sweep

LOG_SECONDS = 20.0


class Line:
    """Best so far, trials by state, time left. On a terminal it moves; in a log it is a line now and then."""

    def __init__(self, sweep: Sweep) -> None:
        self.sweep = sweep
        live = sys.stderr.isatty()
        budget = sweep.budget
        # Counted in the shortest budgets' steps, so that longer trials count for more in the time left.
        further = zip(budget.promote, budget.steps, budget.steps[1:], strict=False)
        promoted = sum(count * (after - before) for count, before, after in further)
        again = budget.finalists * len(budget.seeds) * budget.steps[-1]
        self.total = budget.trials * budget.steps[0] + promoted + again
        self.bar: tqdm | None = None
        self.options = {
            "desc": sweep.sweep, "total": self.total, "unit": "step", "smoothing": 0, "dynamic_ncols": live,
            "mininterval": 0.2 if live else LOG_SECONDS, "maxinterval": 10 if live else LOG_SECONDS * 1.5,
            "bar_format": "{desc} {percentage:3.0f}% ETA {remaining}{postfix}" + ("" if live else "\n"),
        }  # fmt: skip

    def show(self, found: Sequence[Candidate], running: int, trained: int) -> None:
        """``trained``: optimizer steps of all finished trials."""
        if self.bar is None:
            self.bar = tqdm(initial=trained, **self.options)
        states = Counter(one.state for one in found)
        done = states["finished"] + states["pruned"] + states["failed"]
        parts = [f"{done}/{self.sweep.budget.trials} trials, {running} running"]
        parts += [f"{states[state]} {state}" for state in ("pruned", "infeasible", "failed") if states[state]]
        self.bar.set_postfix_str("; ".join([*parts, summary(self.sweep, found)]), refresh=False)
        self.bar.update(trained - self.bar.n)
        if not self.bar.update(0) and sys.stderr.isatty():
            self.bar.refresh()

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


def summary(sweep: Sweep, found: Sequence[Candidate]) -> str:
    """The best value, or the size of the front and from where to where it reaches."""
    points = [one.values for one in best(sweep, list(found)) if one.values is not None]
    if not points:
        return "none finished yet"
    ends = [
        f"{name} {_span([point[index] for point in points])}{f' {o.unit}' if o.unit else ''}"
        for index, (name, o) in enumerate(sweep.objectives.items())
    ]
    return f"front of {len(points)}: {', '.join(ends)}" if len(sweep.objectives) > 1 else f"best {ends[0]}"


def _span(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"


def table(sweep: Sweep, found: Sequence[Candidate]) -> str:
    """The best trials and the baselines, one a line: number, objectives with their spread over seeds, choices."""
    chosen = best(sweep, list(found))
    chosen += [one for one in comparable(list(found)) if one.baseline and one not in chosen]
    heads = ["trial", *(f"{n} ({o.unit})" if o.unit else n for n, o in sweep.objectives.items()), "steps", "choices"]
    rows = [heads]
    for one in chosen:
        spread: Sequence[float | None] = one.spread or (None,) * len(sweep.objectives)
        figures = [
            f"{value:.4g}" if deviation is None else f"{value:.4g} ± {deviation:.1g}"
            for value, deviation in zip(one.values or (), spread, strict=True)
        ]
        choices = ", ".join(f"{name}={_short(value)}" for name, value in one.choices.items())
        rows.append([str(one.number), *figures, str(one.steps), choices + (" (baseline)" if one.baseline else "")])
    widths = [max(len(row[i]) for row in rows) for i in range(len(heads) - 1)]
    return "\n".join("  ".join([*(c.rjust(w) for c, w in zip(row, widths, strict=False)), row[-1]]) for row in rows)


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
