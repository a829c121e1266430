"""A study's trial as an experiment of its own."""

from collections.abc import Sequence
from pathlib import Path

from pocketdit.config.experiment import Experiment
from pocketdit.config.load import load
from pocketdit.errors import RunError
from sweeps.looking.compose import compose
from sweeps.looking.shown import show
from sweeps.results import Candidate, best, candidates
from sweeps.settings import Sweep
from sweeps.store import Store, shown_url

# What makes a trial a run of its study; the experiment has its own.
STUDYS_OWN = ("experiment", "runs")


def write_winner(file: Path, sweep: Sweep, store: Store, number: int | None, to: Path) -> Candidate:
    """Write trial ``number`` of the study in ``file`` as the experiment ``to``; None is the best, or the front's knee.

    Returns the trial. Raises ``RunError`` where the study has no such finished trial, ``ConfigError`` where ``to``
    exists already or is no name of an experiment.
    """
    found = {one.number: one for one in candidates(sweep, store) if one.values is not None}
    if not found:
        raise RunError(f"{sweep.sweep} has no finished trial yet")
    front = best(sweep, list(found.values()))
    chosen = found.get(number) if number is not None else front[knee([_values(one) for one in front], sweep.directions)]
    if chosen is None:
        names = ", ".join(str(one.number) for one in front)
        raise RunError(f"{sweep.sweep} has no finished trial {number}; the best: {names}")
    kept = [word for word in chosen.overrides if word.partition("=")[0] not in STUDYS_OWN]
    compose(load(sweep.base, kept, Experiment), to, _about(file, sweep, store, chosen, front))
    return chosen


def knee(points: Sequence[Sequence[float]], directions: Sequence[str]) -> int:
    """Index of the point nearest to the best of every objective, each scaled to the range that the points span."""
    columns = list(zip(*points, strict=True))
    ideal = [min(c) if d == "minimize" else max(c) for c, d in zip(columns, directions, strict=True)]
    spans = [(max(c) - min(c)) or 1.0 for c in columns]

    def distance(index: int) -> float:
        return sum(((v - i) / s) ** 2 for v, i, s in zip(points[index], ideal, spans, strict=True))

    return min(range(len(points)), key=distance)


def _about(file: Path, sweep: Sweep, store: Store, chosen: Candidate, front: Sequence[Candidate]) -> list[str]:
    """The lines of the opening comment."""
    choices = ", ".join(f"{name} {show(value)}" for name, value in chosen.choices.items())
    spreads = chosen.spread or (0.0,) * len(sweep.objectives)
    values = [
        f"{name} {show(value)}{f' ± {show(spread)}' if spread else ''}{f' {objective.unit}' if objective.unit else ''}"
        for (name, objective), value, spread in zip(sweep.objectives.items(), _values(chosen), spreads, strict=True)
    ]
    seeds = f" (mean of seeds {', '.join(map(str, chosen.seeds))})" if len(chosen.seeds) > 1 else ""
    others = [str(one.number) for one in front if one.number != chosen.number]
    place = "best" if len(sweep.objectives) == 1 else "on the front"
    of_front = f", {place}" + (f" with {', '.join(others)}" if others else "") if chosen in front else ""
    return [
        f"Trial {chosen.number} of the study {sweep.sweep} ({file}) over {sweep.base}: {choices}.",
        f"From: {chosen.run}{of_front}; the study is kept at {shown_url(sweep)}.",
        f"Cost: {chosen.steps} steps; in the study {_seconds(store, chosen):.0f} s.",
        f"Expected: {', '.join(values)}{seeds}, as the study found it.",
    ]


def _seconds(store: Store, chosen: Candidate) -> float:
    """Training of the run, over all trials that went on with it."""
    trials = [
        *store.study(longer=False).get_trials(deepcopy=False),
        *store.study(longer=True).get_trials(deepcopy=False),
    ]
    durations = [trial.duration for trial in trials if trial.user_attrs.get("run") == chosen.run]
    return sum(duration.total_seconds() for duration in durations if duration is not None)


def _values(one: Candidate) -> tuple[float, ...]:
    if one.values is None:
        raise ValueError(f"trial {one.number} has no values")
    return one.values
