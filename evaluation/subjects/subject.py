"""What an evaluation scores."""

from pathlib import Path
from typing import Protocol

from evaluation.contract import ImageSet, PromptSet


class Subject(Protocol):
    """``name`` is how reports call it."""

    name: str

    def images(self, prompts: PromptSet, root: Path) -> ImageSet:
        """Pictures of the prompts, made (and kept under ``root``) or found."""
        ...
