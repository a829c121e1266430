"""The parts of ``manifest.json`` that all export targets share."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

from pocketdit.config.experiment import Sampling
from pocketdit.diffusion.samplers import uniform_times
from pocketdit.export.common.subject import RANDOM, Subject
from pocketdit.tracking.git import revision


def weights_entry(subject: Subject) -> dict[str, Any]:
    """Return the run and the hash of the weights, or a note that the weights are random."""
    random = subject.weights == RANDOM
    return {
        "run": subject.run or None,
        "sha256": None if random else subject.weights,
        "note": RANDOM if random else "",
    }


def image_entry(subject: Subject) -> dict[str, int]:
    """Return the image height and width in pixels."""
    height, width = subject.image_size
    return {"height": height, "width": width}


def sampling_entry(sampling: Sampling) -> dict[str, Any]:
    """Return the sampler and its times, which decrease from 1 to 0."""
    return {
        "sampler": sampling.sampler,
        "steps": sampling.steps,
        "times": uniform_times(sampling.steps, sampling.time_shift),
        "guidance": sampling.guidance,
    }


def software_entries(*libraries: str) -> dict[str, Any]:
    """Return the Git revision of this project, and the versions of the project and its libraries."""
    return {
        "revision": revision(Path(__file__).parent),
        "versions": {name: version(name) for name in ("pocketdit", "torch", *libraries)},
    }
