"""Figures measured on a trained run: objectives of kind ``scored``.

Each class is built from the sweep file and called with a ``RunFolder``.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from pocketdit.artifacts.run_folder import RunFolder
from pocketdit.backbones.spec import FULL_WIDTH
from pocketdit.config.component import Component, build


@dataclass(frozen=True)
class Score:
    """A score of ``evaluation/`` for images that the run samples from a prompt set.

    Args:
        prompts: A prompt set, built when a run is scored.
        metric: A metric, built when a run is scored.
        name: Which of the metric's scores to use.
        width: Width of the supernet that samples.
        steps: Sampling steps; by default those of the run.
        guidance: Guidance scale; by default that of the run.
    """

    prompts: Component
    metric: Component
    name: str = "overall"
    width: float = FULL_WIDTH
    steps: int | None = None
    guidance: float | None = None

    def __call__(self, folder: RunFolder) -> float:
        from evaluation.subjects.run import Run

        subject = Run(folder.name, self.width, self.steps, self.guidance, runs=folder.path.parent.parent)
        with tempfile.TemporaryDirectory() as images_folder:
            images = subject.images(build(self.prompts).load(), Path(images_folder))
            return float(build(self.metric).score(images).scores[self.name].value)
