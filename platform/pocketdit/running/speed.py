"""Measures a run's speed (throughput, time spent waiting for data, model FLOPs utilization) and its peak memory."""

import time
from dataclasses import replace
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.profilers import Profiler
from typing_extensions import override

from pocketdit.config.experiment import AnyExperiment
from pocketdit.memory import peak_bytes
from pocketdit.running.callbacks import logged_step
from pocketdit.running.cost_estimate import META, stage_cost
from pocketdit.running.gathering import gather
from pocketdit.running.processes import trains_on_cpu
from pocketdit.training.gpus import find_gpu
from pocketdit.training.precision import resolve_precision
from pocketdit.training.step_count import count_step

NEXT_BATCH = ".train_dataloader_next"  # suffix of Lightning's profiler action that fetches a training batch


class DataWait(Profiler):
    """Measures how long the training loop waits for batches.

    Attributes:
        seconds: Time spent waiting so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0
        self._started = 0.0

    @override
    def start(self, action_name: str) -> None:
        if action_name.endswith(NEXT_BATCH):
            self._started = time.perf_counter()

    @override
    def stop(self, action_name: str) -> None:
        if action_name.endswith(NEXT_BATCH):
            self.seconds += time.perf_counter() - self._started


def peak_steps(experiment: AnyExperiment) -> float | None:
    """Return how many steps per second a process would take at the peak FLOP rate of its GPU.

    This counts the model FLOPs of a step: the FLOPs of all networks that the step runs, including frozen networks, but
    not the recomputation of activations (Chowdhery et al. 2022, "PaLM", Appendix B).

    Returns:
        The number of steps, or None on a CPU, on a GPU whose peak is not known, in fp32, or if the stage provides no
        cost estimate.
    """
    training = experiment.training
    if trains_on_cpu(training) or not torch.cuda.is_available():
        return None
    gpu = find_gpu(torch.cuda.get_device_name())
    if gpu is None or resolve_precision(training.precision, training.accelerator) != "bf16-mixed":
        return None
    cost = stage_cost(replace(experiment, training=replace(training, gradient_checkpointing=False)))
    if cost is None:
        return None
    return gpu.peak / (count_step(cost, META, bf16=True).batch_flops() * training.accumulate)


class Speed(Callback):
    """Logs the speed since the previous report and the peak memory so far, every ``every`` steps.

    Args:
        every: Number of optimizer steps between reports.
        wait: Profiler that measures the time spent waiting for data.
        experiment: The configuration, from which the MFU is computed.
    """

    def __init__(self, every: int, wait: DataWait, experiment: AnyExperiment) -> None:
        self.every = every
        self.wait = wait
        self.experiment = experiment
        self.peak: float | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count the FLOPs of a step in the first process, which logs the MFU."""
        if trainer.is_global_zero:
            self.peak = peak_steps(self.experiment)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start measuring."""
        self.start, self.first_step, self.samples = time.perf_counter(), trainer.global_step, 0
        self.waited = self.wait.seconds

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the samples of a batch, and log the speed every ``every`` steps."""
        self.samples += len(batch["captions"])
        steps = trainer.global_step - self.first_step
        if steps < self.every:
            return
        seconds = time.perf_counter() - self.start
        processes = gather((self.samples, self.wait.seconds - self.waited, peak_bytes()), trainer.world_size)
        speed = {
            "speed/steps_per_second": steps / seconds,
            "speed/samples_per_second": sum(samples for samples, _, _ in processes) / seconds,
            # The processes wait for each other, so the one that waits longest for its data delays all of them.
            "speed/data_wait": max(waited for _, waited, _ in processes) / seconds,
            "speed/peak_memory_gb": max(peak for _, _, peak in processes) / 1e9,
        }
        if self.peak is not None:
            speed["speed/mfu"] = steps / seconds / self.peak
        for logger in trainer.loggers:
            logger.log_metrics(speed, logged_step(trainer, pl_module, batch_idx))
        self.on_train_start(trainer, pl_module)
