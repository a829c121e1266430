"""What a study lacks, from the trials that there are: after a kill anywhere, nothing is added twice or forgotten."""

from typing import Any

import pytest
from optuna.trial import TrialState

from pocketdit.config.typed import convert
from sweeps.front import best_first, front
from sweeps.plan import MOST_REPEATS, baselines, missing
from sweeps.settings import Sweep
from sweeps.store import TrialRecord

BOTH = ("minimize", "minimize")


def sweep(**changes: Any) -> Sweep:
    values = {
        "sweep": "s", "base": "x.yaml", "space": {"seed": {"kind": "int", "low": 0, "high": 9}},
        "objectives": {"loss": {"kind": "logged", "metric": "m"}},
        "budget": {"trials": 3, "steps": [1, 2], "promote": [2], "finalists": 1, "seeds": [7, 8]},
        "heartbeat": {"retries": 1}, **changes,
    }  # fmt: skip
    return convert(values, Sweep, "")


def record(number: int, state: TrialState, value: float | None = None, **notes: Any) -> TrialRecord:
    given = {"candidate": number, "rung": 0, "seed": 0, "steps": 1, "run": f"s/trial-{number:04d}"}
    if state == TrialState.COMPLETE:
        given["ended"] = "finished"
    return TrialRecord(number, state, {"seed": number}, {}, None if value is None else (value,), given | notes)


DONE = [record(n, TrialState.COMPLETE, value) for n, value in enumerate((3.0, 1.0, 2.0))]


def longer(number: int, candidate: int, rung: int = 1, seed: int = 0, value: float = 1.0, **more: Any) -> TrialRecord:
    return record(number, TrialState.COMPLETE, value, candidate=candidate, rung=rung, seed=seed, **more)


def test_an_empty_study_gets_what_its_workers_can_take() -> None:
    assert len(missing(sweep(), [], [])) == 2
    assert len(missing(sweep(workers=4), [], [])) == 3
    waiting = [record(0, TrialState.WAITING), record(1, TrialState.WAITING)]
    assert missing(sweep(), waiting, []) == []


def test_a_refused_trial_is_replaced_and_a_failed_one_is_not() -> None:
    refused = record(2, TrialState.FAIL, ended="infeasible")
    failed = record(2, TrialState.FAIL, ended="failed")
    assert [a.longer for a in missing(sweep(), [*DONE[:2], refused], [])] == [False]
    assert all(a.longer for a in missing(sweep(), [*DONE[:2], failed], []))


@pytest.mark.parametrize("ended", [{}, {"ended": "stopped"}])
def test_a_trial_without_a_worker_is_queued_again_once(ended: dict[str, str]) -> None:
    lost = record(2, TrialState.FAIL, **ended)
    (again,) = missing(sweep(), [*DONE[:2], lost], [])
    assert again.choices == {"seed": 2} and again.notes["continues"] == 2 and again.notes["run"] == "s/trial-0002"
    taken = record(3, TrialState.WAITING, candidate=2, continues=2)
    assert missing(sweep(), [*DONE[:2], lost, taken], []) == []


def test_a_trial_that_kills_its_workers_is_given_up() -> None:
    deaths = [record(2, TrialState.FAIL), record(3, TrialState.FAIL, candidate=2, continues=2)]
    assert all(addition.longer for addition in missing(sweep(), [*DONE[:2], *deaths], []))


def test_the_best_go_on_then_the_finalist_gets_other_seeds_then_it_is_over() -> None:
    promoted = missing(sweep(), DONE, [])
    assert [(a.longer, a.notes["candidate"], a.notes["steps"]) for a in promoted] == [(True, 1, 2), (True, 2, 2)]
    half = [longer(0, 1, value=5.0)]
    assert [a.notes["candidate"] for a in missing(sweep(), DONE, half)] == [2]  # killed while adding
    both = [*half, longer(1, 2, value=4.0)]
    finals = missing(sweep(), DONE, both)
    assert [(a.notes["run"], a.notes["seed"]) for a in finals] == [
        ("s/trial-0002-seed-7", 7),
        ("s/trial-0002-seed-8", 8),
    ]
    over = [*both, longer(2, 2, seed=7), longer(3, 2, seed=8)]
    assert missing(sweep(), DONE, over) == []


def test_baselines_come_first_and_go_to_the_end_whatever_they_are_worth() -> None:
    study = sweep(baselines=[{"seed": 4}])
    first, other = missing(study, [], [])
    assert (first.choices, first.notes) == ({"seed": 4}, {"baseline": {"seed": 4}}) and other.choices == {}
    worst = record(0, TrialState.COMPLETE, 3.0, baseline={"seed": 4})
    promoted = missing(study, [worst, *DONE[1:]], [])
    assert [a.notes["candidate"] for a in promoted] == [0, 1]
    finals = missing(study, [worst, *DONE[1:]], [longer(0, 0, value=3.0), longer(1, 1, value=1.0)])
    assert [(a.notes["candidate"], a.notes["seed"]) for a in finals] == [(0, 7), (0, 8)]


def test_a_baseline_that_was_tried_before_stands_under_that_number() -> None:
    """It was made one after the study had begun: its own trial is refused as a repetition, and asked for only once."""
    study = sweep(baselines=[{"seed": 0}])
    (late,) = missing(study, DONE, [])
    assert late.notes == {"baseline": {"seed": 0}}
    refused = record(3, TrialState.FAIL, ended="infeasible", baseline={"seed": 0}, repeats=0)
    assert [a.notes["candidate"] for a in missing(study, [*DONE, refused], [])] == [0, 1]


def test_a_baseline_goes_back_with_its_choices_and_another_one_is_added() -> None:
    study = sweep(baselines=[{"seed": 4}])
    dead = TrialRecord(0, TrialState.FAIL, {}, {}, None, {"baseline": {"seed": 4}})
    assert missing(study, [dead], [])[0].choices == {"seed": 4}
    old = record(0, TrialState.COMPLETE, 1.0, baseline={"seed": 4})
    changed = sweep(baselines=[{"seed": 5}])
    assert missing(changed, [old], [])[0].choices == {"seed": 5} and baselines(changed, [old]) == []


@pytest.mark.parametrize("ended", ["finished", "pruned"])
def test_a_worker_that_died_while_it_told_its_result_is_not_the_end(ended: str) -> None:
    lost = record(2, TrialState.FAIL, ended=ended)
    assert missing(sweep(), [*DONE[:2], lost], [])[0].notes["continues"] == 2
    promoted = [longer(0, 1), record(1, TrialState.FAIL, candidate=2, rung=1, ended=ended)]
    assert [a.notes["continues"] for a in missing(sweep(), DONE, promoted)] == [1]


def test_a_space_without_more_choices_goes_on_with_what_it_has() -> None:
    repeats = [record(n, TrialState.FAIL, ended="infeasible", repeats=0) for n in range(2, 2 + MOST_REPEATS)]
    assert all(not a.longer for a in missing(sweep(), [*DONE[:2], *repeats[:-1]], []))
    assert {a.notes["candidate"] for a in missing(sweep(), [*DONE[:2], *repeats], [])} == {0, 1}


def test_front_and_order() -> None:
    points = [(1.0, 5.0), (2.0, 4.0), (2.1, 4.5), (5.0, 1.0), (2.2, 3.9), (9.0, 9.0)]
    assert front(points, BOTH) == [0, 1, 3, 4]
    assert set(best_first(points, BOTH)[:2]) == {0, 3}  # the ends
    assert best_first(points, BOTH)[-2:] == [2, 5]
    assert front(points, ("maximize", "maximize")) == [5]
    assert best_first([(3.0,), (1.0,), (2.0,)], ("minimize",)) == [1, 2, 0]
    assert front([], BOTH) == [] and front([(1.0, 1.0), (1.0, 1.0)], BOTH) == [0, 1]
