"""Quantities measured on a trained run, for objectives of kind ``scored``.

The sweep file names a class and its arguments. An instance maps a ``RunFolder`` to a float.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from evaluation.settings import PROMPT_SET
from pocketdit.artifacts.run_folder import RunFolder
from pocketdit.backbones.spec import FULL_WIDTH
from pocketdit.config.component import Component, Role, build

IMAGE_METRIC = Role("a metric of images (evaluation/contract.py)", ("score",))


@dataclass(frozen=True)
class Score:
    """A score from ``evaluation/`` for images that the run's model generates.

    Args:
        prompts: The prompt set, built when a run is scored.
        metric: The metric, built when a run is scored.
        name: Name of the metric's score to return.
        width: Width of the sub-network that generates the images.
        steps: Number of sampling steps; defaults to the run's.
        guidance: Guidance scale; defaults to the run's.
    """

    prompts: Annotated[Component, PROMPT_SET]
    metric: Annotated[Component, IMAGE_METRIC]
    name: str = "overall"
    width: float = FULL_WIDTH
    steps: int | None = None
    guidance: float | None = None

    def __call__(self, folder: RunFolder) -> float:
        """Generate the images and return their score."""
        from evaluation.subjects.run import Run

        subject = Run(folder.name, self.width, self.steps, self.guidance, runs=folder.path.parent.parent)
        with tempfile.TemporaryDirectory() as images_folder:
            images = subject.images(build(self.prompts).load(), Path(images_folder))
            return float(build(self.metric).score(images).scores[self.name].value)
