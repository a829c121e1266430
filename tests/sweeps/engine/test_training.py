"""Tests for trials that train a network: their logs, memory use, and reproducibility."""

import gc
import resource
from pathlib import Path
from typing import Any

import pytest
import yaml

from pocketdit.commands.main import main
from pocketdit.config.typed import convert
from pocketdit.tracking import journal, target
from sweeps.engine import study
from sweeps.engine.training import Train
from sweeps.engine.worker import Worker
from sweeps.settings import Sweep
from sweeps.storage.results import load_candidates
from tests.sweeps.study import loaded, no_plots, settings

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
    """Changes that make the trials of the sleeping study train the tiny experiment."""
    overrides = dict(text.split("=", 1) for text in tiny if not text.startswith(("runs=", "training.max_steps=")))
    return {
        "set": {key: yaml.safe_load(value) for key, value in overrides.items()} | {"training.validate_every": 2},
        "space": SPACE,
        "objectives": OBJECTIVES,
        "budget": {"trials": 2, "steps": [2, 4], "promote": [1]},
        "train": {"class_path": "sweeps.engine.training.Train"},
    }


def loss_curve(folder: Path) -> list[tuple[int, float]]:
    return journal.read_metrics(folder / "metrics.jsonl")["validation/loss/width_1"]


def test_train_is_the_default(tmp_path: Path) -> None:
    values = settings(tmp_path)
    del values["train"]
    sweep: Sweep = convert(values, Sweep, "")
    assert sweep.train.class_path == f"{Train.__module__}.{Train.__qualname__}"


@pytest.mark.slow
def test_lightning_run_reproduces_a_trial(tmp_path: Path, training: dict[str, Any]) -> None:
    """One of the trials was promoted and resumed. The test also checks what MLflow receives."""
    sweep = loaded(tmp_path, **training)
    candidates = load_candidates(sweep.config, study.run(sweep, no_plots))
    promoted = max(candidates, key=lambda candidate: candidate.steps)
    assert sorted(candidate.steps for candidate in candidates) == [2, 4]
    for candidate in candidates:
        folder = sweep.config.out / candidate.run
        assert main(["run", str(folder / "config.yaml"), "--name", f"again-{candidate.number}"]) == 0
        again = folder.parent / f"again-{candidate.number}"
        assert loss_curve(again) == loss_curve(folder)
        assert len(loss_curve(again)) == candidate.steps // 2
        assert candidate.values is not None
        assert candidate.values[0] == loss_curve(again)[-1][1]
    assert_tracked(sweep.config, promoted.run)


def assert_tracked(sweep: Sweep, run: str) -> None:
    from mlflow import MlflowClient

    stored, parent = target.load(sweep.out / run), target.load(sweep.folder)
    assert stored is not None
    assert parent is not None
    assert stored.run_id is not None
    logged = MlflowClient(stored.uri).get_run(stored.run_id).data
    assert logged.tags["mlflow.parentRunId"] == parent.run_id
    assert logged.tags["sweep"] == "s"
    assert float(logged.params["optimizer.init_args.lr"]) == float(logged.tags["sweep.rate"])
    assert logged.metrics["objective/flops"] > 0
    assert "objective/loss" in logged.metrics
    best = MlflowClient(parent.uri).get_run(parent.run_id or "").data
    assert best.metrics["objective/loss"] > 0


@pytest.mark.slow
def test_trials_do_not_leak_memory(tmp_path: Path, training: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare the resident memory after the last trial with the memory after the first few trials."""
    mebibytes: list[float] = []

    def measured(self: Worker) -> bool:
        ran_trial = run_one(self)
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        mebibytes.append(pages * resource.getpagesize() / 2**20)
        return ran_trial

    run_one = Worker.run_one
    monkeypatch.setattr(Worker, "run_one", measured)
    training["budget"] = {"trials": 14, "steps": [2]}
    study.run(loaded(tmp_path, **training), no_plots)
    assert len(mebibytes) == 14
    assert mebibytes[-1] - mebibytes[3] < 40
