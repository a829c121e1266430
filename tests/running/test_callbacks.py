"""Tests for the callbacks of a run."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pocketdit.artifacts.run_folder import RunFolder
from pocketdit.errors import RunError
from pocketdit.running.accumulation import StepMeans
from pocketdit.running.callbacks import Previews, TrainMetrics, mean_over_processes
from pocketdit.stages.contract import Preview


def test_a_value_is_logged_again_only_after_it_is_measured_again() -> None:
    lines: list[tuple[int, dict[str, float]]] = []
    logger = SimpleNamespace(log_metrics=lambda values, step: lines.append((step, values)))
    trainer: Any = SimpleNamespace(loggers=[logger], global_step=0, world_size=1)
    module: Any = SimpleNamespace(automatic_optimization=False, _trainer=None)
    means = StepMeans()
    callback = TrainMetrics(2, means)
    callback.on_train_start(trainer, module)
    steps = [{"loss/a": 1.0}, {"loss/b": 2.0}, {"loss/b": 3.0}, {"loss/b": 4.0}, {"loss/a": 5.0}]
    for index, outputs in enumerate(steps):
        trainer.global_step = index + 1
        tensors = {name: torch.tensor(value) for name, value in outputs.items()}
        batch = {"captions": ["a"]}
        means.on_train_batch_end(trainer, module, tensors, batch, index)
        callback.on_train_batch_end(trainer, module, tensors, batch, index)
    assert lines == [(1, {"train/loss/a": 1.0, "train/loss/b": 2.0}), (3, {"train/loss/b": 4.0})]


def test_a_preview_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "experiment" / "run")
    trainer: Any = SimpleNamespace(max_steps=9, is_global_zero=True, loggers=[])
    images = torch.zeros(2, 3, 8, 8)
    module: Any = SimpleNamespace(preview=lambda final: Preview({"0.5x": images}, ["a", "b"]))
    previews = Previews(folder, 1)
    previews.write(trainer, module, 3)
    assert [path.name for path in folder.samples.iterdir()] == ["step-000003.png"]
    images[1, 0, 0, 0] = torch.nan
    with pytest.raises(RunError, match=r"^experiment/run, preview at step 4, 0\.5x: 1 of 2 images contain NaN"):
        previews.write(trainer, module, 4)
    assert [path.name for path in folder.samples.iterdir()] == ["step-000003.png"]


def test_logged_values_are_means_over_the_processes_that_have_them() -> None:
    values = [{"a": 0.1, "b": 1.0}, {"a": 0.3}, {"a": 0.2, "b": 4.0}]
    assert mean_over_processes(values) == pytest.approx({"a": 0.2, "b": 2.5})
    assert mean_over_processes([{"a": 0.1}]) == {"a": 0.1}
