"""Trials that really train: what they leave, what they cost, and that they can be done again."""

import gc
import resource
from pathlib import Path
from typing import Any

import pytest

from pocketdit.commands.main import main
from pocketdit.tracking import journal, target
from sweeps import engine
from sweeps.results import candidates
from sweeps.settings import Sweep
from tests.sweeps.study import loaded

SPACE = {
    "rate": {"kind": "float", "low": 1e-3, "high": 1e-2, "keys": ["optimizer.init_args.lr"]},
    "blocks": {"kind": "values", "values": [2, 4],
               "keys": ["backbone.levels.0.attention.blocks", "backbone.levels.2.attention.blocks"]},
}  # fmt: skip
OBJECTIVES = {
    "loss": {"kind": "logged", "metric": "validation/loss/width_1"},
    "flops": {"kind": "computed", "of": {"class_path": "sweeps.costs.ForwardFlops"}, "unit": "GFLOP"},
}


@pytest.fixture
def training(tmp_path: Path, tiny: list[str]) -> dict[str, Any]:
    """A study whose trials train the tiny experiment."""
    words = dict(word.split("=", 1) for word in tiny if not word.startswith(("runs=", "training.max_steps=")))
    import yaml

    return {
        "set": {key: yaml.safe_load(value) for key, value in words.items()} | {"training.validate_every": 2},
        "space": SPACE,
        "objectives": OBJECTIVES,
        "budget": {"trials": 2, "steps": [2, 4], "promote": [1]},
        "train": {"class_path": "sweeps.train.Train"},
    }


def curve(folder: Path, metric: str = "validation/loss/width_1") -> list[tuple[int, float]]:
    return journal.read_metrics(folder / "metrics.jsonl")[metric]


@pytest.mark.slow
def test_a_trial_done_again_by_lightning_run_gives_the_same_figures(
    tmp_path: Path, training: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that went on from its checkpoint to a longer budget. And what MLflow is told of study and trials."""
    monkeypatch.setattr("sweeps.engine.draw", lambda store: [])
    study = loaded(tmp_path, **training)
    store = engine.run(study)
    found = candidates(study.config, store)
    promoted = max(found, key=lambda one: one.steps)
    assert sorted(one.steps for one in found) == [2, 4]
    for one in found:
        folder = study.config.out / one.run
        assert main(["run", str(folder / "config.yaml"), "--name", f"again-{one.number}"]) == 0
        again = folder.parent / f"again-{one.number}"
        assert curve(again) == curve(folder) and len(curve(again)) == one.steps // 2
        assert one.values is not None and one.values[0] == curve(again)[-1][1]
    assert_tracked(study.config, promoted.run)


def assert_tracked(sweep: Sweep, run: str) -> None:
    from mlflow import MlflowClient

    folder = sweep.out / run
    stored, parent = target.load(folder), target.load(sweep.folder)
    assert stored is not None and parent is not None and stored.run_id is not None
    logged = MlflowClient(stored.uri).get_run(stored.run_id).data
    assert logged.tags["mlflow.parentRunId"] == parent.run_id and logged.tags["sweep"] == "s"
    assert float(logged.params["optimizer.init_args.lr"]) == float(logged.tags["sweep.rate"])
    assert logged.metrics["objective/flops"] > 0 and "objective/loss" in logged.metrics
    best = MlflowClient(parent.uri).get_run(parent.run_id or "").data
    assert best.metrics["objective/loss"] > 0


@pytest.mark.slow
def test_trials_leave_no_memory(tmp_path: Path, training: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """What the process keeps after ten trials beyond what it held after the first few."""
    monkeypatch.setattr("sweeps.engine.draw", lambda store: [])
    kept = []

    def looked(self: Any) -> bool:
        done = run_one(self)
        gc.collect()
        kept.append(int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20)
        return done

    run_one = engine.Worker.run_one
    monkeypatch.setattr(engine.Worker, "run_one", looked)
    training["budget"] = {"trials": 14, "steps": [2]}
    engine.run(loaded(tmp_path, **training))
    assert len(kept) == 14 and kept[-1] - kept[3] < 40


def test_figures_of_a_configuration() -> None:
    """Against counts that are known another way."""
    from pocketdit.config.experiment import Experiment
    from pocketdit.config.load import load
    from pocketdit.running.cost_estimate import parameters_by_width
    from sweeps.costs import ForwardFlops, Parameters, PredictedLatency
    from tests.conftest import PRETRAIN

    full = load(PRETRAIN, [], Experiment).config
    dense = load(PRETRAIN, [f"backbone.levels.{i}.attention={{kind: full, kv_heads: 2}}" for i in (0, 2)],
                 Experiment).config  # fmt: skip
    assert Parameters(0.5)(full) * 1e6 == parameters_by_width(full.backbone)[0.5]
    assert ForwardFlops(0.5)(full) < ForwardFlops()(full) / 2
    large = (1024, 1024)
    assert ForwardFlops(size=large)(dense) > ForwardFlops(size=large)(full) > 100 * ForwardFlops()(full)
    assert PredictedLatency(size=large)(full) > PredictedLatency()(full) > 0
    assert PredictedLatency(width=0.5, size=large)(full) < PredictedLatency(size=large)(full)
    with pytest.raises(ValueError, match="no width"):
        Parameters(0.7)(full)
