"""Tests that no trial is queued twice or forgotten, even after a kill at any point."""

from typing import Any

import pytest
from optuna.trial import TrialState

from pocketdit.config.typed import convert
from sweeps.engine.trial_queue import MAX_DUPLICATES, missing_trials
from sweeps.settings import Sweep
from sweeps.storage.records import TrialRecord, baseline_candidates


def build_sweep(**changes: Any) -> Sweep:
    values = {
        "sweep": "s", "base": "x.yaml", "space": {"seed": {"kind": "int", "low": 0, "high": 9}},
        "objectives": {"loss": {"kind": "logged", "metric": "m"}},
        "budget": {"trials": 3, "steps": [1, 2], "promote": [2], "finalists": 1, "seeds": [7, 8]},
        "heartbeat": {"retries": 1}, **changes,
    }  # fmt: skip
    sweep: Sweep = convert(values, Sweep, "")
    return sweep


def record(number: int, state: TrialState, value: float | None = None, **changes: Any) -> TrialRecord:
    attrs = {"candidate": number, "rung": 0, "seed": 0, "steps": 1, "run": f"s/trial-{number:04d}"}
    if state == TrialState.COMPLETE:
        attrs["outcome"] = "complete"
    return TrialRecord(number, state, {"seed": number}, {}, None if value is None else (value,), attrs | changes)


def promoted(number: int, candidate: int, rung: int = 1, seed: int = 0, value: float = 1.0) -> TrialRecord:
    return record(number, TrialState.COMPLETE, value, candidate=candidate, rung=rung, seed=seed)


COMPLETE = [record(n, TrialState.COMPLETE, value) for n, value in enumerate((3.0, 1.0, 2.0))]


def test_empty_study_queues_only_what_its_workers_can_claim() -> None:
    assert len(missing_trials(build_sweep(), [], [])) == 2
    assert len(missing_trials(build_sweep(workers=4), [], [])) == 3
    waiting = [record(0, TrialState.WAITING), record(1, TrialState.WAITING)]
    assert missing_trials(build_sweep(), waiting, []) == []


def test_infeasible_trial_is_replaced_and_failed_trial_is_not() -> None:
    infeasible = record(2, TrialState.FAIL, outcome="infeasible")
    failed = record(2, TrialState.FAIL, outcome="failed")
    assert [new.promoted for new in missing_trials(build_sweep(), [*COMPLETE[:2], infeasible], [])] == [False]
    assert all(new.promoted for new in missing_trials(build_sweep(), [*COMPLETE[:2], failed], []))


@pytest.mark.parametrize("attrs", [{}, {"outcome": "interrupted"}])
def test_trial_without_a_worker_is_retried_once(attrs: dict[str, Any]) -> None:
    orphan = record(2, TrialState.FAIL, **attrs)
    (retry,) = missing_trials(build_sweep(), [*COMPLETE[:2], orphan], [])
    assert retry.params == {"seed": 2}
    assert retry.attrs["retry_of"] == 2
    assert retry.attrs["run"] == "s/trial-0002"
    queued = record(3, TrialState.WAITING, candidate=2, retry_of=2)
    assert missing_trials(build_sweep(), [*COMPLETE[:2], orphan, queued], []) == []


def test_trial_that_kills_its_workers_is_abandoned() -> None:
    deaths = [record(2, TrialState.FAIL), record(3, TrialState.FAIL, candidate=2, retry_of=2)]
    assert all(new.promoted for new in missing_trials(build_sweep(), [*COMPLETE[:2], *deaths], []))


def test_promotions_are_followed_by_the_finalist_with_other_seeds() -> None:
    promotions = missing_trials(build_sweep(), COMPLETE, [])
    assert [(new.promoted, new.attrs["candidate"], new.attrs["steps"]) for new in promotions] == [
        (True, 1, 2),
        (True, 2, 2),
    ]
    half = [promoted(0, 1, value=5.0)]
    assert [new.attrs["candidate"] for new in missing_trials(build_sweep(), COMPLETE, half)] == [2]  # after a kill
    both = [*half, promoted(1, 2, value=4.0)]
    finals = missing_trials(build_sweep(), COMPLETE, both)
    assert [(new.attrs["run"], new.attrs["seed"]) for new in finals] == [
        ("s/trial-0002-seed-7", 7),
        ("s/trial-0002-seed-8", 8),
    ]
    all_seeds = [*both, promoted(2, 2, seed=7), promoted(3, 2, seed=8)]
    assert missing_trials(build_sweep(), COMPLETE, all_seeds) == []


def test_baselines_come_first_and_reach_the_last_stage_regardless_of_their_results() -> None:
    sweep = build_sweep(baselines=[{"seed": 4}])
    first, second = missing_trials(sweep, [], [])
    assert (first.params, first.attrs) == ({"seed": 4}, {"baseline": {"seed": 4}})
    assert second.params == {}
    worst = record(0, TrialState.COMPLETE, 3.0, baseline={"seed": 4})
    promotions = missing_trials(sweep, [worst, *COMPLETE[1:]], [])
    assert [new.attrs["candidate"] for new in promotions] == [0, 1]
    both = [promoted(0, 0, value=3.0), promoted(1, 1, value=1.0)]
    finals = missing_trials(sweep, [worst, *COMPLETE[1:]], both)
    assert [(new.attrs["candidate"], new.attrs["seed"]) for new in finals] == [(0, 7), (0, 8)]


def test_baseline_that_was_tried_before_keeps_the_earlier_number() -> None:
    """The baseline was added after the study had started. Its trial is a duplicate and is not queued again."""
    sweep = build_sweep(baselines=[{"seed": 0}])
    (late,) = missing_trials(sweep, COMPLETE, [])
    assert late.attrs == {"baseline": {"seed": 0}}
    duplicate = record(3, TrialState.FAIL, outcome="infeasible", baseline={"seed": 0}, duplicate_of=0)
    assert [new.attrs["candidate"] for new in missing_trials(sweep, [*COMPLETE, duplicate], [])] == [0, 1]


def test_baseline_is_retried_with_its_parameters_and_a_changed_baseline_is_added() -> None:
    sweep = build_sweep(baselines=[{"seed": 4}])
    dead = TrialRecord(0, TrialState.FAIL, {}, {}, None, {"baseline": {"seed": 4}})
    assert missing_trials(sweep, [dead], [])[0].params == {"seed": 4}
    old = record(0, TrialState.COMPLETE, 1.0, baseline={"seed": 4})
    changed = build_sweep(baselines=[{"seed": 5}])
    assert missing_trials(changed, [old], [])[0].params == {"seed": 5}
    assert baseline_candidates(changed, [old]) == []


@pytest.mark.parametrize("outcome", ["complete", "pruned"])
def test_trial_is_retried_if_its_worker_died_while_storing_the_result(outcome: str) -> None:
    lost = record(2, TrialState.FAIL, outcome=outcome)
    assert missing_trials(build_sweep(), [*COMPLETE[:2], lost], [])[0].attrs["retry_of"] == 2
    promotions = [promoted(0, 1), record(1, TrialState.FAIL, candidate=2, rung=1, outcome=outcome)]
    assert [new.attrs["retry_of"] for new in missing_trials(build_sweep(), COMPLETE, promotions)] == [1]


def test_trials_of_an_exhausted_space_are_promoted() -> None:
    duplicates = [
        record(n, TrialState.FAIL, outcome="infeasible", duplicate_of=0) for n in range(2, 2 + MAX_DUPLICATES)
    ]
    assert all(not new.promoted for new in missing_trials(build_sweep(), [*COMPLETE[:2], *duplicates[:-1]], []))
    promotions = missing_trials(build_sweep(), [*COMPLETE[:2], *duplicates], [])
    assert {new.attrs["candidate"] for new in promotions} == {0, 1}
