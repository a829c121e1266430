"""What a study has found so far, read from its storage: one ``Candidate`` for every point of the space tried."""

import statistics
from dataclasses import dataclass, field, replace
from typing import Literal

from sweeps import plan
from sweeps.front import front
from sweeps.settings import Scalar, Sweep
from sweeps.store import Store, TrialRecord

State = Literal["waiting", "running", "finished", "pruned", "infeasible", "failed"]


@dataclass(frozen=True)
class Candidate:
    """``number``: of its first trial. ``values``: of every objective in order, at the longest budget that it has
    finished (``steps``), the mean over ``seeds``; None where there are none. ``spread``: standard deviation over seeds
    (n - 1), empty for a single one. ``bounds``: figures of the constraints. ``reason``: why it is not finished.
    ``run``: EXPERIMENT/RUN of its run folder, empty where it never trained. ``overrides``: key=value, complete over
    the base experiment. ``baseline``: one of those that are there for comparison."""

    number: int
    state: State
    choices: dict[str, Scalar]
    values: tuple[float, ...] | None = None
    spread: tuple[float, ...] = ()
    steps: int = 0
    seeds: tuple[int, ...] = ()
    run: str = ""
    reason: str = ""
    bounds: dict[str, float] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()
    baseline: bool = False


def candidates(sweep: Sweep, store: Store) -> list[Candidate]:
    """What the study's storage holds."""
    return assemble(sweep, store.records(longer=False), store.records(longer=True))


def assemble(sweep: Sweep, search: list[TrialRecord], longer: list[TrialRecord]) -> list[Candidate]:
    """In the order of their numbers; those that wait without having been given choices yet are left out, and
    those that only repeat another."""
    chains = {record.candidate: record for record in search}  # the last one took the place of those before it
    chains = {number: record for number, record in chains.items() if "repeats" not in record.notes}
    found = [_of_search(sweep, number, record) for number, record in sorted(chains.items())]
    always = plan.baselines(sweep, search)
    found = [replace(one, baseline=one.number in always) for one in found]
    return [_with_longer(one, longer) for one in found if one.choices]


def best(sweep: Sweep, found: list[Candidate]) -> list[Candidate]:
    """The front of those that compare, in the order of the first objective; with one objective the best alone."""
    finished = comparable(found)
    kept = [finished[i] for i in front([one.values or () for one in finished], sweep.directions)]
    kept.sort(key=lambda one: (one.values or (), one.number))
    return kept if len(sweep.objectives) > 1 else kept[:1]


def comparable(found: list[Candidate]) -> list[Candidate]:
    """The finished ones with the most steps, and of those the ones with the most seeds.

    All that train with one seed see the same data in the same order, which moves every loss by more than most choices
    do: a mean over two seeds does not compare with a value of one.
    """
    finished = [one for one in found if one.state == "finished" and one.values is not None]
    reached = max(((one.steps, len(one.seeds)) for one in finished), default=(0, 0))
    return [one for one in finished if (one.steps, len(one.seeds)) == reached]


def _of_search(sweep: Sweep, number: int, record: TrialRecord) -> Candidate:
    notes = record.notes
    finished = record.state.name == "COMPLETE"
    return Candidate(
        number,
        _state(record),
        record.choices,
        values=record.values if finished else None,
        steps=int(notes.get("steps", 0)) if finished else 0,
        seeds=(int(notes.get("seed", sweep.seed)),) if finished else (),
        run=str(notes.get("run", "")),
        reason=str(notes.get("reason", "")),
        bounds=notes.get("bounds", {}),
        overrides=tuple(notes.get("overrides", ())),
    )


def _state(record: TrialRecord) -> State:
    match record.state.name:
        case "COMPLETE":
            return "finished"
        case "PRUNED":
            return "pruned"
        case "RUNNING":
            return "running"
        case "FAIL" if record.ended in ("infeasible", "failed"):
            return "infeasible" if record.ended == "infeasible" else "failed"
        case _:
            return "waiting"


def _with_longer(one: Candidate, longer: list[TrialRecord]) -> Candidate:
    """With the values of the longest budget that it has finished, over all seeds there."""
    done = [r for r in longer if r.candidate == one.number and r.state.name == "COMPLETE" and r.values is not None]
    most = max((int(r.notes["steps"]) for r in done), default=0)
    if most < one.steps or one.values is None:
        return one
    by_seed = {int(r.notes["seed"]): r.values for r in done if int(r.notes["steps"]) == most and r.values is not None}
    first = next((r for r in done if int(r.notes["steps"]) == most and r.notes["run"] == one.run), None)
    if most == one.steps:
        by_seed = dict(zip(one.seeds, [one.values], strict=True)) | by_seed
    columns = list(zip(*by_seed.values(), strict=True))
    return replace(
        one,
        values=tuple(statistics.fmean(column) for column in columns),
        spread=tuple(statistics.stdev(column) for column in columns) if len(by_seed) > 1 else (),
        steps=most,
        seeds=tuple(by_seed),
        overrides=tuple(first.notes["overrides"]) if first else one.overrides,
    )
