"""Decides which trials to queue next, as a pure function of the existing trials.

Only the ``lightning sweep`` process queues trials. If it is killed, the next process computes the same missing trials,
so no trial is lost or queued twice.
"""

from dataclasses import dataclass, field
from typing import Any

from optuna.distributions import BaseDistribution

from sweeps.pareto import rank
from sweeps.settings import Sweep
from sweeps.space import Params
from sweeps.storage.records import TrialRecord, baseline_candidates

QUEUED_PER_WORKER = 2
# After this many duplicates in a row, the space is considered exhausted. A trial that follows a duplicate is drawn at
# random.
MAX_DUPLICATES = 60
# These attributes belong to one attempt; a retry of the trial does not inherit them.
ATTEMPT_ATTRS = ("outcome", "reason", "worker", "original")


@dataclass(frozen=True)
class NewTrial:
    """A trial to queue. Its fields are the arguments of ``Store.add``."""

    promoted: bool
    params: Params = field(default_factory=dict)
    distributions: dict[str, BaseDistribution] = field(default_factory=dict)
    attrs: dict[str, Any] = field(default_factory=dict)


def missing_trials(sweep: Sweep, search: list[TrialRecord], promoted: list[TrialRecord]) -> list[NewTrial]:
    """Return the trials to queue now. The list is empty while the queue is full and once the study is complete.

    Order of precedence: retries of interrupted trials, baselines, other trials of the search, promotions, finalists.
    """
    new = [_retry(record, False) for record in orphans(search, sweep.heartbeat.retries)]
    new += [_retry(record, True) for record in orphans(promoted, sweep.heartbeat.retries)]
    needed = sweep.budget.trials - sum(record.counts for record in search) - abandoned(sweep, search)
    needed -= sum(not trial.promoted for trial in new)
    if is_exhausted(search):
        needed = 0
    # Queue only as many trials as workers can claim before the next call: each claim reads all waiting trials.
    free_slots = QUEUED_PER_WORKER * sweep.workers - sum(record.state.name == "WAITING" for record in search)
    queued = [record.attrs.get("baseline") for record in search]
    baselines = [
        NewTrial(False, dict(params), attrs={"baseline": dict(params)})
        for params in sweep.baselines
        if params not in queued
    ]
    # A sampler that has converged proposes the same parameters repeatedly.
    attrs = {"random": True} if _last_is_duplicate(search) else {}
    sampled = [NewTrial(promoted=False, attrs=attrs)] * max(0, needed - len(baselines))
    new += [*baselines, *sampled][: max(0, free_slots)]
    if new or unfinished(search) or unfinished(promoted):
        return new
    return _next_stage(sweep, search, promoted)


def is_complete(sweep: Sweep, search: list[TrialRecord], promoted: list[TrialRecord]) -> bool:
    """Return whether no trial is missing, waiting, or running."""
    return not (unfinished(search) or unfinished(promoted) or missing_trials(sweep, search, promoted))


def is_exhausted(search: list[TrialRecord]) -> bool:
    """Return whether the search space appears to be exhausted, judging by consecutive duplicates."""
    duplicates = 0
    for record in search:
        if record.outcome in ("complete", "pruned", "failed"):
            duplicates = 0
        duplicates += "duplicate_of" in record.attrs
    return duplicates >= MAX_DUPLICATES


def unfinished(records: list[TrialRecord]) -> int:
    """Count the waiting and running trials."""
    return sum(record.state.name in ("WAITING", "RUNNING") for record in records)


def orphans(records: list[TrialRecord], retries: int) -> list[TrialRecord]:
    """Return the trials to retry: their workers died or were stopped, and no retry has been queued."""
    replaced = {record.attrs.get("retry_of") for record in records}
    return [
        record
        for record in records
        if (record.lost or record.outcome == "interrupted")
        and record.number not in replaced
        and deaths(record, records) <= retries
    ]


def deaths(record: TrialRecord, records: list[TrialRecord]) -> int:
    """Count the workers that died while running a trial or the trials that it replaces."""
    count, by_number = 0, {other.number: other for other in records}
    current: TrialRecord | None = record
    while current is not None:
        count += current.lost
        current = by_number.get(current.attrs.get("retry_of", -1))
    return count


def abandoned(sweep: Sweep, records: list[TrialRecord]) -> int:
    """Count the trials that are not retried because too many workers died running them."""
    return sum(record.lost and deaths(record, records) > sweep.heartbeat.retries for record in records)


def _last_is_duplicate(search: list[TrialRecord]) -> bool:
    """Return whether the latest trial with an outcome is a duplicate of another."""
    ended = [record for record in search if record.outcome]
    return bool(ended) and "duplicate_of" in ended[-1].attrs


def _retry(record: TrialRecord, promoted: bool) -> NewTrial:
    inherited = {name: value for name, value in record.attrs.items() if name not in ATTEMPT_ATTRS}
    attrs = inherited | {"retry_of": record.number, "candidate": record.candidate}
    if "baseline" in attrs:  # the worker may have died before it set the parameters
        return NewTrial(promoted, dict(attrs["baseline"]), attrs=attrs)
    return NewTrial(promoted, record.params, record.distributions, attrs)


def _next_stage(sweep: Sweep, search: list[TrialRecord], promoted: list[TrialRecord]) -> list[NewTrial]:
    """Return the promotions that the lowest incomplete rung still lacks.

    If no rung is incomplete, return the finalists' trials for the remaining seeds.
    """
    origins = {record.candidate: record for record in search if record.state.name == "COMPLETE"}
    values = {number: record.values for number, record in origins.items()}
    baselines = baseline_candidates(sweep, search)
    queued = {(record.candidate, record.attrs["rung"], record.attrs["seed"]) for record in promoted}
    for rung, count in enumerate(sweep.budget.promote, start=1):
        selected = _select(sweep, values, count, baselines)
        if new := [number for number in selected if (number, rung, sweep.seed) not in queued]:
            return [_promotion(sweep, origins[number], rung, sweep.seed) for number in new]
        values = {
            record.candidate: record.values
            for record in promoted
            if (record.attrs["rung"], record.attrs["seed"]) == (rung, sweep.seed) and record.state.name == "COMPLETE"
        }
    last = len(sweep.budget.steps) - 1
    return [
        _promotion(sweep, origins[number], last, seed)
        for number in _select(sweep, values, sweep.budget.finalists, baselines)
        for seed in sweep.budget.seeds
        if (number, last, seed) not in queued
    ]


def _select(sweep: Sweep, values: dict[int, tuple[float, ...] | None], count: int, baselines: list[int]) -> list[int]:
    """Select up to ``count`` candidates with values: baselines first, then the best of the others."""
    known = {number: point for number, point in values.items() if point is not None}
    numbers = list(known)
    ranked = [numbers[i] for i in rank([known[number] for number in numbers], sweep.directions)]
    kept = [number for number in baselines if number in known]
    return [*kept, *(number for number in ranked if number not in kept)][:count]


def _promotion(sweep: Sweep, origin: TrialRecord, rung: int, seed: int) -> NewTrial:
    run = origin.attrs["run"] if seed == sweep.seed else f"{origin.attrs['run']}-seed-{seed}"
    attrs = {"candidate": origin.candidate, "rung": rung, "seed": seed, "steps": sweep.budget.steps[rung], "run": run}
    return NewTrial(True, origin.params, origin.distributions, attrs)
