"""Fixtures that provide studies with known contents: views for plots, and a small study in SQLite."""

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.trial import TrialState

from pocketdit.config.component import Component
from sweeps.dimensions import IntRange, Options
from sweeps.objectives import Bound, Computed, Logged
from sweeps.plots.view import ObjectiveAxis, StudyView, TrialPoint
from sweeps.settings import Budget, Sweep
from sweeps.space import Params, param_overrides, values_to_check
from sweeps.storage.store import Store
from tests.conftest import PRETRAIN

LIMIT = 2.0  # GFLOP


@pytest.fixture(autouse=True)
def project(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run each test in an otherwise empty folder with a ``pocketdit.toml`` that trusts the tests' classes."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "pocketdit.toml").write_text('[trust]\nmodules = ["tests"]\n')
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def view() -> StudyView:
    """A front of three trials, a dominated baseline, and two infeasible trials, one of them without a loss."""
    sparse: Params = {"attention": "assa", "blocks": 8, "radius": 1, "learning rate": 1e-3}
    return StudyView(
        "blocks, by hand",
        (ObjectiveAxis("validation loss"), ObjectiveAxis("predicted latency", "ms")),
        (
            TrialPoint(0, (0.50, 9.0), {"attention": "full", "learning rate": 1e-2}, rank=1),
            TrialPoint(1, (0.52, 7.0), sparse | {"blocks": 4}, spread=(0.004, 0.0), rank=2),
            TrialPoint(2, (0.58, 4.0), sparse, rank=3),
            TrialPoint(3, (0.60, 8.0), sparse | {"radius": 2, "learning rate": 1e-4}, baseline=True),
            TrialPoint(4, (0.49, 12.0), sparse | {"blocks": 1}, violations=("latency at most 10 ms",)),
            TrialPoint(5, (None, 14.0), sparse | {"blocks": 2, "radius": 2}, violations=("latency at most 10 ms",)),
        ),
    )


@pytest.fixture
def single(view: StudyView) -> StudyView:
    """The trials of ``view`` with the loss as the only objective."""
    points = tuple(
        TrialPoint(p.number, p.values[:1], p.params, p.violations, p.spread[:1], int(p.number == 0), p.baseline)
        for p in view.points
    )
    return StudyView("one objective", view.axes[:1], points)


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
    """A study of five trials: 0 to 2 form a front, 3 is infeasible, and 4 is dominated.

    Trials 0 to 2 are promoted to 200 steps, where trials 1 and 2 have two seeds. Trial 1 has the lower loss of the two.
    """
    store = Store(sweep)
    add_trial(store, 0, {"attention": "full"}, [0.50, 1.9])
    add_trial(store, 1, {"attention": "assa", "blocks": 4}, [0.52, 1.2])
    add_trial(store, 2, {"attention": "assa", "blocks": 8}, [0.60, 1.0])
    add_trial(store, 3, {"attention": "assa", "blocks": 1}, None, outcome="infeasible",
              reason="most_arithmetic is 2.5", constraint_values={"most_arithmetic": 2.5})  # fmt: skip
    add_trial(store, 4, {"attention": "assa", "blocks": 2}, [0.70, 1.6])
    promoted: dict[str, Any] = {"promoted": True, "rung": 1, "steps": 200}
    add_trial(store, 0, {"attention": "full"}, [0.41, 1.9], **promoted)
    for number, blocks, losses in ((1, 4, (0.42, 0.44)), (2, 8, (0.55, 0.57))):
        for seed, loss in enumerate(losses):
            run = f"hand/trial-{number:04d}" + ("-seed-1" if seed else "")
            params: Params = {"attention": "assa", "blocks": blocks}
            add_trial(store, number, params, [loss, 1.4 - 0.05 * blocks], seed=seed, run=run, **promoted)
    return store


def add_trial(
    store: Store, number: int, params: Params, values: list[float] | None, promoted: bool = False, **attrs: Any
) -> None:
    """Store a complete or infeasible trial the way a worker does."""
    sweep = store.sweep
    attrs = {"candidate": number, "rung": 0, "seed": 0, "steps": 100, "run": f"hand/trial-{number:04d}",
             "outcome": "complete"} | attrs  # fmt: skip
    own = {"experiment": "hand", "runs": "elsewhere", "seed": attrs["seed"], "training.max_steps": attrs["steps"]}
    options = CategoricalDistribution(list(values_to_check(sweep.space["attention"])))
    store.study(promoted).add_trial(
        optuna.create_trial(
            state=TrialState.COMPLETE if values else TrialState.FAIL,
            params=params,
            distributions={name: options if name == "attention" else IntDistribution(1, 16) for name in params},
            values=values,
            user_attrs=attrs | {"overrides": [*own.items(), *param_overrides(sweep.space, params)]},
        )
    )
