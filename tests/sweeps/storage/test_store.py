"""Tests for the samplers of a store, and for concurrent claims of trials."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import optuna
import pytest

from pocketdit.config.typed import convert
from sweeps.settings import Sweep
from sweeps.space import suggest_params
from sweeps.storage.store import Store
from tests.sweeps.study import loaded


@pytest.mark.parametrize("kind", ["tpe", "random"])
def test_random_sampler_does_not_repeat_the_initial_random_trials(tmp_path: Path, kind: str) -> None:
    """The random sampler takes over when the sampler repeats itself, so it must draw different parameters."""
    values = {
        "sweep": "s", "base": "x.yaml", "storage": f"sqlite:///{tmp_path}/s.db",
        "space": {"x": {"kind": "float", "low": 0.0, "high": 1.0, "keys": ["a"]}},
        "objectives": {"loss": {"kind": "logged", "metric": "m"}},
        "budget": {"trials": 8, "steps": [1]}, "sampler": {"kind": kind, "startup": 8},
    }  # fmt: skip
    store = Store(convert(values, Sweep, ""))
    drawn = {}
    for name, sampler in (("sampler", store.sampler), ("random", store.random_sampler)):
        study = optuna.create_study(sampler=sampler)
        drawn[name] = {study.ask().suggest_float("x", 0.0, 1.0) for _ in range(8)}
    assert len(drawn["sampler"] | drawn["random"]) == 16


@pytest.mark.parametrize("kind", ["random", "tpe"])
def test_trial_is_claimed_by_exactly_one_worker(tmp_path: Path, kind: str) -> None:
    """Each thread has its own SQLite connection and also claims trials queued through another connection."""
    sweep = loaded(tmp_path, sampler={"kind": kind}).config
    store = Store(sweep)
    stores = [Store(sweep, index) for index in range(4)]
    for index in range(20):
        store.add(False, {}, {}, {"random": True} if index % 2 else {})

    def claim_all(own: Store) -> list[int]:
        claimed = []
        while (claim := own.claim("worker")) is not None:
            _, trial = claim
            claimed.append(trial.number)
            assert suggest_params(sweep.space, trial)
        return claimed

    with ThreadPoolExecutor(4) as pool:
        claimed = [number for numbers in pool.map(claim_all, stores) for number in numbers]
    assert sorted(claimed) == list(range(20))
