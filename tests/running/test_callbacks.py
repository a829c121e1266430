"""Tests for the callbacks of a run."""

from types import SimpleNamespace
from typing import Any

import torch

from pocketdit.running.accumulation import StepMeans
from pocketdit.running.callbacks import TrainMetrics


def test_a_value_is_logged_again_only_after_it_is_measured_again() -> None:
    lines: list[tuple[int, dict[str, float]]] = []
    logger = SimpleNamespace(log_metrics=lambda values, step: lines.append((step, values)))
    trainer: Any = SimpleNamespace(loggers=[logger], global_step=0)
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
