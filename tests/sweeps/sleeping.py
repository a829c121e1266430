"""Provides trials that sleep instead of training, so that concurrent trials do not compete for CPU cores."""

import math
import os
import time
from pathlib import Path

from pocketdit.files import write_atomically
from sweeps.engine.training import Job, Observer
from sweeps.metrics import Curves


class Sleep:
    """A stand-in for training that sleeps, and resumes from the last "checkpoint".

    The loss is the learning rate, plus the reciprocal of the step, plus a thousandth of the seed. Every validation is
    appended to the file ``validations`` in the experiment's folder.

    Args:
        seconds: Time between two validations.
        slices: Number of calls of ``on_step`` between two validations.
        diverges: A learning rate above this value raises an error.
        nan_above: A learning rate above this value results in a loss of NaN.
        fails_with: Path of a file; every trial fails while the file exists.
    """

    def __init__(
        self,
        seconds: float = 0.0,
        slices: int = 10,
        diverges: float = 1e9,
        nan_above: float = 1e9,
        fails_with: str = "",
    ) -> None:
        self.seconds, self.slices, self.diverges = seconds, slices, diverges
        self.nan_above, self.fails_with = nan_above, fails_with

    def __call__(self, job: Job, observer: Observer) -> Curves:
        experiment = job.loaded.config
        rate, steps = experiment.optimizer.init_args["lr"], experiment.training.max_steps
        if rate > self.diverges:
            raise RuntimeError("loss is not finite")
        if self.fails_with and Path(self.fails_with).exists():
            raise RuntimeError("fuse")
        offset = math.nan if rate > self.nan_above else experiment.seed / 1e3
        folder = Path(experiment.runs) / experiment.experiment / job.name
        every = experiment.training.validate_every
        losses = {step: rate + offset + 1 / step for step in range(every, steps + 1, every)}
        for step, loss in losses.items():
            if step > steps_done(folder):
                for _ in range(self.slices):
                    time.sleep(self.seconds / self.slices)
                    observer.on_step()
                observer.on_validation(step, {"validation/loss/width_1": loss})
                write_atomically(folder / "config.yaml", job.loaded.to_yaml())
                # Log before saving, so that every saved validation is in the log even after a kill.
                with (folder.parent / "validations").open("a") as file:
                    file.write(f"{job.name} {step} {os.getpid()}\n")
                write_atomically(folder / "done", str(step))
        return {"validation/loss/width_1": [(step - 1, loss) for step, loss in losses.items()]}


def steps_done(folder: Path) -> int:
    """Return the step of the last checkpoint."""
    return int((folder / "done").read_text()) if (folder / "done").is_file() else 0


class FailWithAddress:
    """A stand-in for training whose error contains the address of the tracking server, as a driver's error would."""

    def __call__(self, job: Job, observer: Observer) -> Curves:
        raise RuntimeError(f"cannot connect to {job.loaded.config.tracking.uri}")
