"""The interface of a subject."""

from pathlib import Path
from typing import Protocol

from evaluation.contract import ImageSet, PromptSet


class Subject(Protocol):
    """A source of images for prompts: a model that samples them, or a folder that contains them.

    Attributes:
        name: Name of the subject in reports.
    """

    name: str

    def images(self, prompts: PromptSet, root: Path) -> ImageSet:
        """Return the images of a prompt set. Sampled images are stored under ``root``."""
        ...
