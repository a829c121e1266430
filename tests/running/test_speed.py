"""Tests for the speed metrics of a run: data wait, throughput, and MFU."""

import time
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pocketdit.config.experiment import Experiment
from pocketdit.config.load import load
from pocketdit.running import speed
from pocketdit.running.cost_estimate import META, stage_cost
from pocketdit.running.speed import DataWait, Speed, peak_steps
from pocketdit.training.gpus import GPUS
from pocketdit.training.step_count import count_step
from tests.conftest import PRETRAIN

FETCH = "[_TrainingEpochLoop].train_dataloader_next"
BF16 = "training.precision=bf16-mixed"


def test_only_fetching_training_batches_counts_as_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 12.5, 20.0, 20.25])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    wait = DataWait()
    with wait.profile(FETCH), wait.profile("run_training_batch"):
        pass
    with wait.profile("[_EvaluationLoop].val_next"):
        pass
    with wait.profile(FETCH):
        pass
    assert wait.seconds == 2.75


def test_the_speed_and_memory_of_all_processes_are_logged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(speed, "gather", lambda own, processes: [own, (6, 3.0, 5 * 10**12)])
    logged: list[dict[str, float]] = []
    logger = SimpleNamespace(log_metrics=lambda values, step: logged.append(values))
    trainer: Any = SimpleNamespace(global_step=3, world_size=2, loggers=[logger])
    module: Any = SimpleNamespace(automatic_optimization=True)
    experiment: Any = None
    wait = DataWait()
    callback = Speed(2, wait, experiment)
    callback.peak = 4.0
    callback.on_train_start(trainer, module)
    for step, seconds in ((4, 2.0), (5, 10.0)):
        now[0], trainer.global_step, wait.seconds = seconds, step, seconds / 10
        callback.on_train_batch_end(trainer, module, None, {"captions": ["x"] * 4}, 0)
    assert logged == [
        {
            "speed/steps_per_second": 0.2,
            "speed/samples_per_second": 1.4,
            "speed/data_wait": 0.3,
            "speed/peak_memory_gb": 5000.0,
            "speed/mfu": pytest.approx(0.05),
        }
    ]


def test_the_mfu_counts_no_recomputation(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ["backbone.width=128", "backbone.widths=[0.5, 1.0]", "backbone.text_width=64", "training.accumulate=2"]
    experiment = load(PRETRAIN, [*settings, BF16, "training.gradient_checkpointing=true"], Experiment).config
    cpu = load(PRETRAIN, [BF16, "training.accelerator=cpu"], Experiment).config
    assert peak_steps(cpu) is None
    monkeypatch.setattr(speed, "trains_on_cpu", lambda training: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H200")
    h200 = next(gpu for gpu in GPUS if gpu.name == "H200")
    cost = stage_cost(load(PRETRAIN, [*settings, BF16], Experiment).config)
    assert cost is not None
    flops = count_step(cost, META, bf16=True).batch_flops() * 2
    assert peak_steps(experiment) == pytest.approx(h200.peak / flops)
    assert peak_steps(load(PRETRAIN, [*settings, "training.precision=32-true"], Experiment).config) is None
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA T4")
    assert peak_steps(experiment) is None
