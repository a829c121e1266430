"""Writes a trial of a study as a standalone experiment."""

from collections.abc import Sequence
from pathlib import Path

from pocketdit.errors import RunError
from sweeps.plots.view import format_value
from sweeps.settings import Sweep
from sweeps.storage.connection import masked_url
from sweeps.storage.results import Candidate, best_candidates, load_candidates
from sweeps.storage.store import Store
from sweeps.winner.compose import compose

# Settings that belong to the study. They are not copied to the winner's experiment.
STUDY_KEYS = ("experiment", "runs")


def write_winner(file: Path, sweep: Sweep, store: Store, number: int | None, to: Path) -> Candidate:
    """Write a trial as the experiment ``to``.

    Args:
        file: The sweep file, for the opening comment.
        sweep: The study's settings.
        store: The study's storage.
        number: Number of the trial; None selects the best trial or, with several objectives, the knee of the front.
        to: The file to write.

    Returns:
        The trial.

    Raises:
        RunError: The study has no complete trial, or trial ``number`` is not complete.
        ConfigError: ``to`` exists or does not end in .yaml.
    """
    complete = {c.number: c for c in load_candidates(sweep, store) if c.values is not None}
    if not complete:
        raise RunError(f"{sweep.sweep} does not have a complete trial yet")
    front = best_candidates(sweep, list(complete.values()))
    if number is None:
        winner = front[knee([_values(candidate) for candidate in front], sweep.directions)]
    elif number in complete:
        winner = complete[number]
    else:
        best = ", ".join(str(candidate.number) for candidate in front)
        raise RunError(
            f"--winner {number}: {sweep.sweep} does not have a complete trial {number}; the best trials are {best}"
        )
    overrides = [(key, value) for key, value in winner.overrides if key not in STUDY_KEYS]
    compose(sweep.base, overrides, to, _about(file, sweep, store, winner, front))
    return winner


def knee(points: Sequence[Sequence[float]], directions: Sequence[str]) -> int:
    """Return the index of the point closest to the ideal point, with each objective scaled by its range."""
    columns: list[tuple[float, ...]] = list(zip(*points, strict=True))
    ideal = [min(c) if d == "minimize" else max(c) for c, d in zip(columns, directions, strict=True)]
    spans = [(max(c) - min(c)) or 1.0 for c in columns]

    def distance(index: int) -> float:
        return sum(((v - i) / s) ** 2 for v, i, s in zip(points[index], ideal, spans, strict=True))

    return min(range(len(points)), key=distance)


def _about(file: Path, sweep: Sweep, store: Store, winner: Candidate, front: Sequence[Candidate]) -> list[str]:
    """Return the paragraphs of the winner's opening comment."""
    params = ", ".join(f"{name} {format_value(value)}" for name, value in winner.params.items())
    spreads = winner.spread or (0.0,) * len(sweep.objectives)
    values = [
        f"{name} {format_value(value)}"
        + (f" ± {format_value(spread)}" if spread else "")
        + (f" {objective.unit}" if objective.unit else "")
        for (name, objective), value, spread in zip(sweep.objectives.items(), _values(winner), spreads, strict=True)
    ]
    seeds = f" (mean of seeds {', '.join(map(str, winner.seeds))})" if len(winner.seeds) > 1 else ""
    others = [str(candidate.number) for candidate in front if candidate.number != winner.number]
    place = ""
    if winner in front:
        place = ", the best trial" if len(sweep.objectives) == 1 else ", on the front"
        place += f" with trials {', '.join(others)}" if others else ""
    return [
        f"Trial {winner.number} of the study {sweep.sweep} ({file}) over {sweep.base}: {params}.",
        f"From: {winner.run}{place}. The study is stored in {masked_url(sweep)}.",
        f"Cost: {winner.steps} steps, which took {_seconds(store, winner):.0f} s in the study.",
        f"Expected: {', '.join(values)}{seeds}, as measured by the study.",
    ]


def _seconds(store: Store, winner: Candidate) -> float:
    """Return the total training time of the winner's run in seconds, including continuations."""
    trials = [
        *store.study(promoted=False).get_trials(deepcopy=False),
        *store.study(promoted=True).get_trials(deepcopy=False),
    ]
    durations = [trial.duration for trial in trials if trial.user_attrs.get("run") == winner.run]
    return sum(duration.total_seconds() for duration in durations if duration is not None)


def _values(candidate: Candidate) -> tuple[float, ...]:
    if candidate.values is None:
        raise ValueError(f"trial {candidate.number} has no values")
    return candidate.values
