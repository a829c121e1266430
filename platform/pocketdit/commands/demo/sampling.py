"""Samples the images of a request, and reports its progress."""

import time
from dataclasses import dataclass, field
from functools import partial

from pocketdit.commands.demo.gallery import Gallery
from pocketdit.commands.demo.jobs import Job
from pocketdit.commands.demo.request import Request, Side
from pocketdit.commands.demo.subjects import Models
from pocketdit.sampling import BATCH
from pocketdit.training.cost import parameters_by_width

_REPORT_SECONDS = 0.1


@dataclass
class Progress:
    """Counts the completed steps of a request, and estimates the remaining time.

    The time of a step is assumed to be proportional to the number of parameters at the width, and to double with
    guidance.

    Attributes:
        job: The request whose progress is reported.
        seconds: Time spent on sampling so far, in seconds. It does not include loading the networks.
    """

    job: Job
    seconds: float = 0.0
    _reported: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        request = self.job.request
        self.total = sum(steps(side) for side in request.sides for _ in side.widths)
        self.work = sum(steps(side) * cost(side, width) for side in request.sides for width in side.widths)
        self.steps, self.done = 0, 0.0

    def report(self, side: Side, width: float, start: float, completed: int) -> None:
        """Report the progress of sampling at one width.

        Args:
            side: The run.
            width: The width.
            start: Value of ``time.perf_counter`` when sampling at this width began.
            completed: Number of steps completed at this width.

        Raises:
            CanceledError: The request was canceled.
        """
        self.job.check()
        now = time.perf_counter()
        if now - self._reported < _REPORT_SECONDS:
            return
        self._reported = now
        done = self.done + completed * cost(side, width)
        left = (self.seconds + now - start) * (self.work / done - 1) if done else None
        self.job.emit(event="step", step=self.steps + completed, steps=self.total, left=left,
                      run=side.subject.name, width=width)  # fmt: skip

    def finish(self, side: Side, width: float, elapsed: float) -> None:
        """Count all steps at a width as completed."""
        self.seconds += elapsed
        self.steps += steps(side)
        self.done += steps(side) * cost(side, width)


def steps(side: Side) -> int:
    """Return the number of sampling steps at each width, summed over all batches of prompts."""
    return side.sampling.steps * -(-len(side.sampling.prompts) // BATCH)


def cost(side: Side, width: float) -> float:
    """Return the cost of a sampling step, in a unit that is the same for all widths and runs."""
    return parameters_by_width(side.experiment.backbone)[width] * (1 if side.sampling.guidance == 1 else 2)


def sample(job: Job, models: Models, gallery: Gallery) -> None:
    """Sample and save the images of a request, and report each image and the progress.

    Raises:
        CanceledError: The request was canceled.
        UserError: A network cannot be loaded, an image contains NaN or infinity, or an image cannot be saved.
    """
    request = job.request
    progress = Progress(job)
    for number, side in enumerate(request.sides):
        if not models.is_loaded(side.subject):
            job.emit(event="loading", run=side.subject.name)
        model = models.load(side.subject, side.decoder)
        for width in side.widths:
            start = time.perf_counter()
            on_step = partial(progress.report, side, width, start)
            images = model.sample(side.sampling.prompts, width, side.sampling, on_step)
            elapsed = time.perf_counter() - start
            job.check()
            progress.finish(side, width, elapsed)
            settings = model.describe(width, side.sampling)
            pictures = gallery.add(images, side.sampling.prompts, settings, side.subject.notice,
                                   elapsed / len(images), request.query())  # fmt: skip
            job.emit(event="pictures", side=number, width=width, seconds=elapsed,
                     pictures=[picture.as_json() for picture in pictures])  # fmt: skip
    job.emit(event="done", commands=commands(request), same_noise=request.same_noise)


def commands(request: Request) -> list[str]:
    """Return the ``lightning sample`` commands that sample the same images."""
    return [side.command(out) for side, out in zip(request.sides, ("samples", "samples_against"), strict=False)]
