"""The parts of ``manifest.json`` that every export target writes."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

from pocketdit.config.experiment import Sampling
from pocketdit.diffusion.samplers import uniform_times
from pocketdit.export.common.subject import RANDOM, Subject
from pocketdit.tracking.git import revision


def weights_entry(subject: Subject) -> dict[str, Any]:
    """The run that the weights are from and their hash, or a note that they are random."""
    random = subject.weights == RANDOM
    return {
        "run": subject.run or None,
        "sha256": None if random else subject.weights,
        "note": RANDOM if random else "",
    }


def image_entry(subject: Subject) -> dict[str, int]:
    """Image height and width in pixels."""
    height, width = subject.image_size
    return {"height": height, "width": width}


def sampling_entry(sampling: Sampling) -> dict[str, Any]:
    """The sampler and its times, which fall from 1 to 0."""
    return {
        "sampler": sampling.sampler,
        "steps": sampling.steps,
        "times": uniform_times(sampling.steps, sampling.time_shift),
        "guidance": sampling.guidance,
    }


def software_entries(*libraries: str) -> dict[str, Any]:
    """``revision`` of this project's Git repository, and ``versions`` of the project and the libraries."""
    return {
        "revision": revision(Path(__file__).parent),
        "versions": {name: version(name) for name in ("pocketdit", "torch", *libraries)},
    }
