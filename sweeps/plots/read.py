"""Reads a study's storage into the views that its plots show."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pocketdit.config.shell import command_line, operand
from pocketdit.errors import RunError
from pocketdit.tracking.target import sqlite_path
from sweeps.engine.trial_queue import is_complete
from sweeps.objectives import Bound, Computed
from sweeps.plots.view import ObjectiveAxis, StudyView, StudyViews, TrialPoint, format_value, short_names
from sweeps.settings import Sweep
from sweeps.storage.connection import masked_url, study_names
from sweeps.storage.results import Candidate, best_candidates, candidates, comparable
from sweeps.storage.store import Store


def open_study(sweep: Sweep, file: Path) -> Store:
    """Open the storage of an existing study.

    Args:
        sweep: The study's settings.
        file: The sweep file, for the error message.

    Raises:
        RunError: The storage does not contain the study.
    """
    database = sqlite_path(sweep.url)
    if database is not None and not database.is_file():
        problem = f"{sweep.url} does not exist"
    elif sweep.sweep not in study_names(sweep):
        problem = f"it is not in {masked_url(sweep)}"
    else:
        return Store(sweep)
    command = command_line("sweep", operand(file))
    raise RunError(f"sweep: {sweep.sweep} has not been started ({problem}); start it with: {command}")


def read_views(sweep: Sweep, store: Store) -> StudyViews:
    """Read both views of a study, which may still be running."""
    search, promoted = store.records(promoted=False), store.records(promoted=True)
    suffix = "" if is_complete(sweep, search, promoted) else ", not complete yet"
    return StudyViews(
        _view(sweep, candidates(sweep, search, []), suffix), _view(sweep, candidates(sweep, search, promoted), suffix)
    )


def _view(sweep: Sweep, all_candidates: Sequence[Candidate], title_suffix: str) -> StudyView:
    ranks = {candidate.number: rank for rank, candidate in enumerate(best_candidates(sweep, all_candidates), 1)}
    results = comparable(all_candidates)
    shown = [candidate for candidate in all_candidates if candidate.state == "infeasible" or candidate in results]
    steps, seeds = (results[0].steps, len(results[0].seeds)) if results else (0, 1)
    names = short_names(list(sweep.space))
    axes = tuple(
        ObjectiveAxis(name.replace("_", " "), objective.unit, objective.direction == "minimize")
        for name, objective in sweep.objectives.items()
    )
    points = tuple(_point(sweep, candidate, ranks.get(candidate.number, 0), names) for candidate in shown)
    averaged = f", mean of {seeds} seeds" if seeds > 1 else ""
    return StudyView(f"{sweep.sweep}: {sweep.base.stem}, {steps} steps{averaged}{title_suffix}", axes, points)


def _point(sweep: Sweep, candidate: Candidate, rank: int, names: Mapping[str, str]) -> TrialPoint:
    values: tuple[float | None, ...] = candidate.values or tuple(
        _computed_value(sweep, candidate, name) for name in sweep.objectives
    )
    return TrialPoint(
        candidate.number,
        values,
        params={names[name]: value for name, value in candidate.params.items()},
        violations=_violations(sweep, candidate),
        spread=candidate.spread,
        rank=rank,
        baseline=candidate.baseline,
    )


def _computed_value(sweep: Sweep, candidate: Candidate, name: str) -> float | None:
    """Return an untrained trial's value of an objective, which is known if a constraint bounds the same quantity."""
    objective = sweep.objectives[name]
    if not isinstance(objective, Computed):
        return None
    same = (other for other, bound in sweep.constraints.items() if bound.of == objective.of)
    values = candidate.constraint_values
    return next((values[other] for other in same if other in values), None)


def _violations(sweep: Sweep, candidate: Candidate) -> tuple[str, ...]:
    if candidate.state != "infeasible":
        return ()
    values = candidate.constraint_values
    violated = [
        f"{name.replace('_', ' ')} {format_value(values[name])}, {_limits(bound)}"
        for name, bound in sweep.constraints.items()
        if name in values and not bound.at_least <= values[name] <= bound.at_most
    ]
    return tuple(violated) or (candidate.reason,)


def _limits(bound: Bound) -> str:
    limits = [("at least", bound.at_least), ("at most", bound.at_most)]
    text = " and ".join(f"{word} {format_value(limit)}" for word, limit in limits if abs(limit) != float("inf"))
    return f"{text} {bound.unit}".rstrip()
