"""Trials that wait instead of computing, through the real engine: two of them at once do not share a core's time."""

import math
import os
import time
from pathlib import Path

from pocketdit.files import write_atomically
from sweeps.metrics import Curves
from sweeps.train import Job, Watch


class Sleep:
    """Goes on from its last "checkpoint", as training does, and notes in ``ends`` beside the runs when it came to its
    end. The loss is the rate, plus what falls with the steps, plus a
    thousandth of the seed; a rate above ``diverges`` fails, one above ``nan_above`` gives no number, and with the file
    ``fails_with`` all fail."""

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

    def __call__(self, job: Job, watch: Watch) -> Curves:
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
            if step > done(folder):
                for _ in range(self.slices):
                    time.sleep(self.seconds / self.slices)
                    watch.stepped()
                watch.validated(step, {"validation/loss/width_1": loss})
                write_atomically(folder / "config.yaml", job.loaded.to_yaml())
                # Before it is done: a kill in between must not look like a step that was never made.
                with (folder.parent / "validations").open("a") as file:
                    file.write(f"{job.name} {step} {os.getpid()}\n")
                write_atomically(folder / "done", str(step))
        return {"validation/loss/width_1": [(step - 1, loss) for step, loss in losses.items()]}


def done(folder: Path) -> int:
    """Steps of the last checkpoint."""
    return int((folder / "done").read_text()) if (folder / "done").is_file() else 0
