"""Trials that sleep instead of training, so that two of them at once do not compete for a core."""

import math
import os
import time
from pathlib import Path

from pocketdit.files import write_atomically
from sweeps.engine.training import Job, Observer
from sweeps.metrics import Curves


class Sleep:
    """A stand-in for training: resumes from its last "checkpoint", and its loss follows from the configuration.

    The loss is the learning rate, plus the reciprocal of the step, plus a thousandth of the seed. Every validation is
    appended to ``validations`` in the experiment's folder.

    Args:
        seconds: Time between two validations.
        slices: Number of steps that this time is divided into.
        diverges: Learning rates above this raise an error.
        nan_above: Learning rates above this give a loss of NaN.
        fails_with: While this file exists, every trial fails.
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
                # Log before saving: a kill in between must not look like a validation that never happened.
                with (folder.parent / "validations").open("a") as file:
                    file.write(f"{job.name} {step} {os.getpid()}\n")
                write_atomically(folder / "done", str(step))
        return {"validation/loss/width_1": [(step - 1, loss) for step, loss in losses.items()]}


def steps_done(folder: Path) -> int:
    """Return the step of the last checkpoint."""
    return int((folder / "done").read_text()) if (folder / "done").is_file() else 0
