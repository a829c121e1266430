"""What a study's samplers draw."""

from pathlib import Path

import optuna
import pytest

from pocketdit.config.typed import convert
from sweeps.settings import Sweep
from sweeps.store import Store


@pytest.mark.parametrize("kind", ["tpe", "random"])
def test_chance_does_not_draw_again_what_the_sampler_began_with(tmp_path: Path, kind: str) -> None:
    """A sampler that repeats itself gives way to chance, which must not repeat the sampler's own random start."""
    values = {
        "sweep": "s", "base": "x.yaml", "storage": f"sqlite:///{tmp_path}/s.db",
        "space": {"x": {"kind": "float", "low": 0.0, "high": 1.0, "keys": ["a"]}},
        "objectives": {"loss": {"kind": "logged", "metric": "m"}},
        "budget": {"trials": 8, "steps": [1]}, "sampler": {"kind": kind, "startup": 8},
    }  # fmt: skip
    store = Store(convert(values, Sweep, ""))
    drawn = {}
    for name, sampler in (("sampler", store.sampler), ("chance", store.chance)):
        study = optuna.create_study(sampler=sampler)
        drawn[name] = {study.ask().suggest_float("x", 0.0, 1.0) for _ in range(8)}
    assert len(drawn["sampler"] | drawn["chance"]) == 16
