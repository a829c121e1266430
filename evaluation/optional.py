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
    """A ``Detector`` that lists its classes, so that results can report which objects it cannot detect."""

    classes: tuple[str, ...]


@runtime_checkable
class LogitScale(Protocol):
    """An ``ImageTextEncoder`` that was trained to multiply cosine similarities by a factor, and exposes this factor."""

    @property
    def logit_scale(self) -> float:
        """The factor by which cosine similarities were multiplied in training, which is 100 for most models."""
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
