"""What a study still lacks: a pure function from the trials that there are to those that must be added.

Asked again and again by the one process that runs the command; after a kill anywhere it gives the same answer, so
nothing is lost and nothing is added twice.
"""

from dataclasses import dataclass, field
from typing import Any

from optuna.distributions import BaseDistribution

from sweeps.front import best_first
from sweeps.settings import Scalar, Sweep
from sweeps.store import TrialRecord

QUEUE_A_WORKER = 2
# Choices drawn one after the other, many of them at random, that had all been tried: the space holds no more.
MOST_REPEATS = 60


@dataclass(frozen=True)
class Addition:
    """A trial to be put into the queue: of the search or of what goes on from it."""

    longer: bool
    choices: dict[str, Scalar] = field(default_factory=dict)
    distributions: dict[str, BaseDistribution] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)


def missing(sweep: Sweep, search: list[TrialRecord], longer: list[TrialRecord]) -> list[Addition]:
    """Empty where trials only have to run, or where the study is done."""
    again = [_again(record, False) for record in orphans(search, sweep.heartbeat.retries)]
    again += [_again(record, True) for record in orphans(longer, sweep.heartbeat.retries)]
    lacking = sweep.budget.trials - sum(record.live for record in search) - given_up(sweep, search)
    lacking -= sum(not addition.longer for addition in again)
    if exhausted(search):
        lacking = 0
    # No more than workers can take before this is asked again: every look at the queue reads all that waits.
    room = QUEUE_A_WORKER * sweep.workers - sum(record.state.name == "WAITING" for record in search)
    begun = [record.notes.get("baseline") for record in search]
    compared = [Addition(False, dict(choices), notes={"baseline": dict(choices)})
                for choices in sweep.baselines if choices not in begun]  # fmt: skip
    # A sampler that is sure of itself proposes the same again and again.
    notes = {"random": True} if _repeats(search) else {}
    drawn = [Addition(longer=False, notes=notes)] * max(0, lacking - len(compared))
    again += [*compared, *drawn][: max(0, room)]
    if again or running(search) or running(longer):
        return again
    return _next_stage(sweep, search, longer)


def _repeats(search: list[TrialRecord]) -> bool:
    """Whether the last trial that came to an end had choices that another had before."""
    ended = [record for record in search if record.ended]
    return bool(ended) and "repeats" in ended[-1].notes


def exhausted(search: list[TrialRecord]) -> bool:
    """Whether there is nothing left to draw that was not tried before."""
    repeats = 0
    for record in search:
        if record.ended in ("finished", "pruned", "failed"):
            repeats = 0
        repeats += "repeats" in record.notes
    return repeats >= MOST_REPEATS


def baselines(sweep: Sweep, search: list[TrialRecord]) -> list[int]:
    """Their candidates; one that the search had tried before it was made a baseline stands under that number."""
    marked = [record for record in search if record.notes.get("baseline") in sweep.baselines]
    return list(dict.fromkeys(int(record.notes.get("repeats", record.candidate)) for record in marked))


def finished(sweep: Sweep, search: list[TrialRecord], longer: list[TrialRecord]) -> bool:
    """Whether the study lacks nothing and nothing runs."""
    return not (running(search) or running(longer) or missing(sweep, search, longer))


def running(records: list[TrialRecord]) -> int:
    """Trials that wait or run."""
    return sum(record.state.name in ("WAITING", "RUNNING") for record in records)


def orphans(records: list[TrialRecord], retries: int) -> list[TrialRecord]:
    """Failed trials whose worker died or was stopped, whose place no other has taken yet."""
    taken = {record.notes.get("continues") for record in records}
    return [
        record
        for record in records
        if (record.lost or record.ended == "stopped") and record.number not in taken
        and deaths(record, records) <= retries
    ]  # fmt: skip


def deaths(record: TrialRecord, records: list[TrialRecord]) -> int:
    """How many workers died on the trial, over all that took its place."""
    count, by_number = 0, {one.number: one for one in records}
    here: TrialRecord | None = record
    while here is not None:
        count += here.lost
        here = by_number.get(here.notes.get("continues", -1))
    return count


def given_up(sweep: Sweep, records: list[TrialRecord]) -> int:
    """Trials on which too many workers died."""
    return sum(record.lost and deaths(record, records) > sweep.heartbeat.retries for record in records)


def _again(record: TrialRecord, longer: bool) -> Addition:
    kept = {name: value for name, value in record.notes.items() if name not in ("ended", "reason", "worker", "first")}
    notes = kept | {"continues": record.number, "candidate": record.candidate}
    if "baseline" in notes:  # which its worker may not have come to choose
        return Addition(longer, dict(notes["baseline"]), notes=notes)
    return Addition(longer, record.choices, record.distributions, notes)


def _next_stage(sweep: Sweep, search: list[TrialRecord], longer: list[TrialRecord]) -> list[Addition]:
    """Promotions to the next budget that has none yet, or the finalists' other seeds."""
    origins = {record.candidate: record for record in search if record.state.name == "COMPLETE"}
    reached = {number: record.values for number, record in origins.items()}
    always = baselines(sweep, search)
    known = {(record.candidate, record.notes["rung"], record.notes["seed"]) for record in longer}
    for rung, count in enumerate(sweep.budget.promote, start=1):
        chosen = _best(sweep, reached, count, always)
        wanted = [(number, rung, sweep.seed) for number in chosen]
        if new := [one for one in wanted if one not in known]:
            return [_addition(sweep, origins[number], rung, seed) for number, rung, seed in new]
        done = [r for r in longer if r.notes["rung"] == rung and r.state.name == "COMPLETE"]
        reached = {record.candidate: record.values for record in done if record.notes["seed"] == sweep.seed}
    last = len(sweep.budget.steps) - 1
    finals = [(number, last, seed) for number in _best(sweep, reached, sweep.budget.finalists, always)
              for seed in sweep.budget.seeds]  # fmt: skip
    return [_addition(sweep, origins[number], last, seed) for number, _, seed in finals
            if (number, last, seed) not in known]  # fmt: skip


def _best(sweep: Sweep, reached: dict[int, tuple[float, ...] | None], count: int, always: list[int]) -> list[int]:
    """So many candidates: those of ``always`` that have values, then the others, the best first."""
    known = {number: values for number, values in reached.items() if values is not None}
    numbers = list(known)
    ranked = [numbers[i] for i in best_first([known[n] for n in numbers], sweep.directions)]
    kept = [number for number in always if number in known]
    return [*kept, *(number for number in ranked if number not in kept)][:count]


def _addition(sweep: Sweep, origin: TrialRecord, rung: int, seed: int) -> Addition:
    run = origin.notes["run"] if seed == sweep.seed else f"{origin.notes['run']}-seed-{seed}"
    notes = {"candidate": origin.candidate, "rung": rung, "seed": seed, "steps": sweep.budget.steps[rung], "run": run}
    return Addition(True, origin.choices, origin.distributions, notes)
