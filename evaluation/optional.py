"""Optional interfaces of metrics and judges, beyond those in ``evaluation.contract``."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from evaluation.contract import PromptSet


@runtime_checkable
class PromptCheck(Protocol):
    """A metric that rejects unsuitable prompts before their images are sampled."""

    def check_prompts(self, prompts: PromptSet) -> None:
        """Check that the metric can score images of the prompt set.

        Raises:
            ConfigError: The metric cannot score them.
        """
        ...


@runtime_checkable
class ClassList(Protocol):
    """A ``Detector`` that states its classes, so that results can state what it cannot see."""

    classes: tuple[str, ...]


@runtime_checkable
class LogitScale(Protocol):
    """An ``ImageTextEncoder`` that knows the factor by which it was trained to multiply cosines."""

    @property
    def logit_scale(self) -> float:
        """The factor, 100 for most models."""
        ...


@runtime_checkable
class TextLimit(Protocol):
    """A judge that reads only the beginning of long texts.

    Attributes:
        max_text_tokens: Maximum number of tokens that the judge reads, including start and end tokens.
    """

    max_text_tokens: int

    def count_truncated(self, texts: Sequence[str]) -> int:
        """Return the number of texts that are too long for the judge to read in full."""
        ...
