"""Studies made by hand: what pictures show, and a small one in sqlite."""

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.trial import TrialState

from pocketdit.config.component import Component
from sweeps.looking.shown import Axis, Point, Shown
from sweeps.settings import Bound, Budget, Computed, IntRange, Logged, Options, Sweep
from sweeps.space import extremes, overrides
from sweeps.store import Store
from tests.conftest import PRETRAIN


@pytest.fixture
def shown() -> Shown:
    """A front of three, one trial off it, one that breaks a constraint, one that was not even trained."""
    sparse = {"attention": "assa", "blocks": 8, "radius": 1, "learning rate": 1e-3}
    return Shown(
        "blocks, by hand",
        (Axis("validation loss"), Axis("predicted latency", "ms")),
        (
            Point(0, (0.50, 9.0), {"attention": "full", "learning rate": 1e-2}, rank=1),
            Point(1, (0.52, 7.0), sparse | {"blocks": 4}, spread=(0.004, 0.0), rank=2),
            Point(2, (0.58, 4.0), sparse, rank=3),
            Point(3, (0.60, 8.0), sparse | {"radius": 2, "learning rate": 1e-4}, baseline=True),
            Point(4, (0.49, 12.0), sparse | {"blocks": 1}, broken=("latency at most 10 ms",)),
            Point(5, (None, 14.0), sparse | {"blocks": 2, "radius": 2}, broken=("latency at most 10 ms",)),
        ),
    )


@pytest.fixture
def single(shown: Shown) -> Shown:
    """The same with the loss alone."""
    points = tuple(
        Point(p.number, p.values[:1], p.choices, p.broken, p.spread[:1], int(p.number == 0), p.baseline)
        for p in shown.points
    )
    return Shown("one objective", shown.axes[:1], points)


LIMIT = 2.0  # GFLOP


def add(store: Store, number: int, longer: bool = False, **given: Any) -> None:
    """A finished or refused trial as a worker leaves it."""
    sweep = store.sweep
    notes = {
        "candidate": number,
        "rung": 0,
        "seed": 0,
        "steps": 100,
        "run": f"hand/trial-{number:04d}",
        "ended": "finished",
    }
    notes |= given.pop("notes", {})
    choices = given.pop("choices")
    own = ["experiment=hand", "runs=elsewhere", f"seed={notes['seed']}", f"training.max_steps={notes['steps']}"]
    values = given.get("values")
    study = store.study(longer)
    study.add_trial(
        optuna.create_trial(
            state=TrialState.COMPLETE if values else TrialState.FAIL,
            params=choices,
            distributions={
                name: CategoricalDistribution(list(extremes(sweep.space[name]))) if name == "attention"
                else IntDistribution(1, 16) for name in choices
            },
            values=values,
            user_attrs=notes | {"overrides": [*own, *overrides(sweep.space, choices)]},
        )
    )  # fmt: skip


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    flops = Component("sweeps.costs.ForwardFlops")
    sparse = {"kind": "assa", "kv_heads": 2, "blocks": "$blocks", "radius": 1}
    return Sweep(
        sweep="hand",
        base=PRETRAIN,
        space={
            "attention": Options("options", {
                "full": {"backbone.levels.0.attention": {"kind": "full", "kv_heads": 2}},
                "assa": {"backbone.levels.0.attention": sparse},
            }),
            "blocks": IntRange("int", 1, 16),
        },
        objectives={"validation_loss": Logged("logged", "validation/loss/width_1"),
                    "arithmetic": Computed("computed", flops, unit="GFLOP")},
        constraints={"most_arithmetic": Bound(flops, at_most=LIMIT, unit="GFLOP")},
        budget=Budget(trials=5, steps=(100, 200), promote=(3,), finalists=2, seeds=(0, 1)),
        out=tmp_path / "runs",
    )  # fmt: skip


@pytest.fixture
def store(sweep: Sweep) -> Store:
    """Five trials: 0 to 2 are a front, 1 is the best one of both, 3 is refused, 4 is worse; 0 to 2 went on to 200
    steps, 1 and 2 there with two seeds."""
    store = Store(sweep)
    add(store, 0, choices={"attention": "full"}, values=[0.50, 1.9])
    add(store, 1, choices={"attention": "assa", "blocks": 4}, values=[0.52, 1.2])
    add(store, 2, choices={"attention": "assa", "blocks": 8}, values=[0.60, 1.0])
    refused = {"ended": "infeasible", "reason": "most_arithmetic is 2.5", "bounds": {"most_arithmetic": 2.5}}
    add(store, 3, choices={"attention": "assa", "blocks": 1}, notes=refused)
    add(store, 4, choices={"attention": "assa", "blocks": 2}, values=[0.70, 1.6])
    later = {"rung": 1, "steps": 200}
    add(store, 0, True, choices={"attention": "full"}, values=[0.41, 1.9], notes=later)
    for number, blocks, losses in ((1, 4, (0.42, 0.44)), (2, 8, (0.55, 0.57))):
        for seed, loss in enumerate(losses):
            run = f"hand/trial-{number:04d}" + ("-seed-1" if seed else "")
            notes = later | {"seed": seed, "run": run}
            choices = {"attention": "assa", "blocks": blocks}
            add(store, number, True, choices=choices, values=[loss, 1.4 - 0.05 * blocks], notes=notes)
    return store
