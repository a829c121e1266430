"""From a study's storage to what its pictures show."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pocketdit.errors import RunError
from pocketdit.tracking.target import sqlite_path
from sweeps.looking.shown import Axis, Point, Shown, Views, plain_names, show
from sweeps.plan import finished
from sweeps.results import Candidate, assemble, best, comparable
from sweeps.settings import Bound, Computed, Sweep
from sweeps.store import Store, shown_url, study_names


def open_study(sweep: Sweep, file: Path) -> Store:
    """The study that the YAML ``file`` began. ``RunError`` where it has not, as far as this machine can tell."""
    database = sqlite_path(sweep.url)
    if database is not None and not database.is_file():
        raise RunError(
            f"{sweep.sweep} has not begun ({sweep.url} does not exist); begin it with: lightning sweep {file}"
        )
    if sweep.sweep not in study_names(sweep):
        raise RunError(
            f"{sweep.sweep} has not begun (it is not in {shown_url(sweep)}); begin it with: lightning sweep {file}"
        )
    return Store(sweep)


def read(sweep: Sweep, store: Store) -> Views:
    search, longer = store.records(longer=False), store.records(longer=True)
    state = "" if finished(sweep, search, longer) else ", not finished yet"
    first, all_budgets = assemble(sweep, search, []), assemble(sweep, search, longer)
    return Views(_shown(sweep, first, state), _shown(sweep, all_budgets, state))


def _shown(sweep: Sweep, found: Sequence[Candidate], state: str) -> Shown:
    chosen = best(sweep, list(found))
    ranks = {one.number: rank for rank, one in enumerate(chosen, 1)}
    results = comparable(list(found))
    compared = [one for one in found if one.state == "infeasible" or one in results]
    steps, seeds = (results[0].steps, len(results[0].seeds)) if results else (0, 1)
    names = plain_names(list(sweep.space))
    axes = tuple(
        Axis(name.replace("_", " "), objective.unit, objective.direction == "minimize")
        for name, objective in sweep.objectives.items()
    )
    points = tuple(_point(sweep, one, ranks.get(one.number, 0), names) for one in compared)
    over = f", mean of {seeds} seeds" if seeds > 1 else ""
    return Shown(f"{sweep.sweep}: {sweep.base.stem}, {steps} steps{over}{state}", axes, points)


def _point(sweep: Sweep, one: Candidate, rank: int, names: Mapping[str, str]) -> Point:
    values: tuple[float | None, ...] = one.values or tuple(_known(sweep, one, name) for name in sweep.objectives)
    choices = {names[name]: value for name, value in one.choices.items()}
    return Point(one.number, values, choices, _broken(sweep, one), one.spread, rank, one.baseline)


def _known(sweep: Sweep, one: Candidate, name: str) -> float | None:
    """An objective of a trial that was refused before training: known where a constraint is on the same figure."""
    objective = sweep.objectives[name]
    if not isinstance(objective, Computed):
        return None
    same = (other for other, bound in sweep.constraints.items() if bound.of == objective.of)
    return next((one.bounds[other] for other in same if other in one.bounds), None)


def _broken(sweep: Sweep, one: Candidate) -> tuple[str, ...]:
    if one.state != "infeasible":
        return ()
    over = [
        f"{name.replace('_', ' ')} {show(one.bounds[name])}, {_limit(bound)}"
        for name, bound in sweep.constraints.items()
        if name in one.bounds and not bound.at_least <= one.bounds[name] <= bound.at_most
    ]
    return tuple(over) or (one.reason,)


def _limit(bound: Bound) -> str:
    limits = [("at least", bound.at_least), ("at most", bound.at_most)]
    text = " and ".join(f"{word} {show(limit)}" for word, limit in limits if abs(limit) != float("inf"))
    return f"{text} {bound.unit}".rstrip()
