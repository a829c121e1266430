"""The results of a study so far, as one ``Candidate`` per point of the search space that has been tried."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from sweeps.overrides import KeyValue
from sweeps.pareto import pareto_front
from sweeps.settings import Sweep
from sweeps.space import Params
from sweeps.storage.records import TrialRecord, baseline_candidates
from sweeps.storage.store import Store

State = Literal["waiting", "running", "complete", "pruned", "infeasible", "failed"]


@dataclass(frozen=True)
class Candidate:
    """A point of the search space, with the combined results of its trials.

    Attributes:
        number: Number of the first trial.
        state: State of the latest trial in the search.
        params: The trial parameters.
        values: Values of the objectives at the longest completed budget, in order, averaged over ``seeds``; None if no
            budget has been completed.
        spread: Standard deviation (n - 1) of each objective over the seeds; empty for a single seed.
        steps: The longest completed budget, in optimizer steps; 0 if no budget has been completed.
        seeds: Training seeds that have completed this budget.
        run: The run folder as EXPERIMENT/RUN; empty if the candidate has not been trained.
        reason: Why the candidate is not complete.
        constraint_values: Value of each constrained quantity, keyed by the name of the constraint.
        overrides: All changes to the base experiment.
        baseline: Whether the candidate is one of the study's baselines.
    """

    number: int
    state: State
    params: Params
    values: tuple[float, ...] | None = None
    spread: tuple[float, ...] = ()
    steps: int = 0
    seeds: tuple[int, ...] = ()
    run: str = ""
    reason: str = ""
    constraint_values: dict[str, float] = field(default_factory=dict)
    overrides: tuple[KeyValue, ...] = ()
    baseline: bool = False


def load_candidates(sweep: Sweep, store: Store) -> list[Candidate]:
    """Read all candidates from the study's storage."""
    return candidates(sweep, store.records(promoted=False), store.records(promoted=True))


def candidates(sweep: Sweep, search: list[TrialRecord], promoted: list[TrialRecord]) -> list[Candidate]:
    """Combine trials into candidates, sorted by number.

    Skips waiting trials without parameters and duplicates of other trials.
    """
    latest = {record.candidate: record for record in search}  # a retry replaces the earlier trial
    latest = {number: record for number, record in latest.items() if "duplicate_of" not in record.attrs}
    baselines = baseline_candidates(sweep, search)
    combined = []
    for number, record in sorted(latest.items()):
        if record.params:
            candidate = replace(_from_search(sweep, number, record), baseline=number in baselines)
            combined.append(_with_promoted(candidate, promoted))
    return combined


def best_candidates(sweep: Sweep, all_candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the front of the comparable candidates, sorted by the first objective.

    With a single objective, return only the best candidate.
    """
    compared = comparable(all_candidates)
    front = [compared[i] for i in pareto_front([c.values or () for c in compared], sweep.directions)]
    signs = [1 if direction == "minimize" else -1 for direction in sweep.directions]

    def key(candidate: Candidate) -> tuple[list[float], int]:
        return [sign * v for sign, v in zip(signs, candidate.values or (), strict=True)], candidate.number

    front.sort(key=key)
    return front if len(sweep.objectives) > 1 else front[:1]


def comparable(all_candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the complete candidates with the most steps and, among them, the most seeds.

    Training runs with the same seed see the same data in the same order, which affects every loss more than most
    parameters do. A mean over two seeds is therefore not comparable with the value of a single seed.
    """
    complete = [c for c in all_candidates if c.state == "complete" and c.values is not None]
    furthest = max(((c.steps, len(c.seeds)) for c in complete), default=(0, 0))
    return [c for c in complete if (c.steps, len(c.seeds)) == furthest]


def _from_search(sweep: Sweep, number: int, record: TrialRecord) -> Candidate:
    attrs = record.attrs
    complete = record.state.name == "COMPLETE"
    return Candidate(
        number,
        _state(record),
        record.params,
        values=record.values if complete else None,
        steps=int(attrs.get("steps", 0)) if complete else 0,
        seeds=(int(attrs.get("seed", sweep.seed)),) if complete else (),
        run=str(attrs.get("run", "")),
        reason=str(attrs.get("reason", "")),
        constraint_values=attrs.get("constraint_values", {}),
        overrides=_overrides(record),
    )


def _state(record: TrialRecord) -> State:
    match record.state.name:
        case "COMPLETE":
            return "complete"
        case "PRUNED":
            return "pruned"
        case "RUNNING":
            return "running"
        case "FAIL" if record.outcome in ("infeasible", "failed"):
            return "infeasible" if record.outcome == "infeasible" else "failed"
        case _:
            return "waiting"


def _with_promoted(candidate: Candidate, promoted: list[TrialRecord]) -> Candidate:
    """Use the values of the longest completed budget, averaged over all seeds that have completed it."""
    done = [
        (int(record.attrs["steps"]), int(record.attrs["seed"]), record, record.values)
        for record in promoted
        if record.candidate == candidate.number and record.state.name == "COMPLETE" and record.values is not None
    ]
    most = max((steps for steps, *_ in done), default=0)
    if most < candidate.steps or candidate.values is None:
        return candidate
    longest = [(seed, record, values) for steps, seed, record, values in done if steps == most]
    by_seed = {seed: values for seed, _, values in longest}
    if most == candidate.steps:
        by_seed = dict(zip(candidate.seeds, [candidate.values], strict=True)) | by_seed
    same_run = next((record for _, record, _ in longest if record.attrs["run"] == candidate.run), None)
    columns = list(zip(*by_seed.values(), strict=True))
    return replace(
        candidate,
        values=tuple(statistics.fmean(column) for column in columns),
        spread=tuple(statistics.stdev(column) for column in columns) if len(by_seed) > 1 else (),
        steps=most,
        seeds=tuple(by_seed),
        overrides=_overrides(same_run) if same_run else candidate.overrides,
    )


def _overrides(record: TrialRecord) -> tuple[KeyValue, ...]:
    return tuple((key, value) for key, value in record.attrs.get("overrides", ()))
