"""Figures of a trained run: objectives of kind ``scored``. Built from the YAML and called with a ``RunFolder``."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from pocketdit.artifacts.run_folder import RunFolder
from pocketdit.backbones.spec import FULL_WIDTH
from pocketdit.config.component import Component, build


@dataclass(frozen=True)
class Score:
    """What a metric of ``evaluation/`` says of pictures that the run draws from a prompt set.

    ``name``: of the metric's scores. ``width``: of the supernet; ``steps``, ``guidance``: of sampling, the run's own
    where not given. Both components are built when a run is scored.
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
        with tempfile.TemporaryDirectory() as pictures:
            images = subject.images(build(self.prompts).load(), Path(pictures))
            return float(build(self.metric).score(images).scores[self.name].value)
