"""The interface between T2I-CompBench's metric and the scorers of its categories."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from evaluation.contract import Backend, ImageArray, Prompt


class Scorer(Protocol):
    """Scores the images of one prompt between 0 and 1 (a cosine may be lower).

    Attributes:
        categories: Categories that it can score.
        backends: The judges that it asks.
        protocol: Its constants, serializable as JSON.
    """

    categories: tuple[str, ...]
    backends: tuple[Backend, ...]
    protocol: Mapping[str, Any]

    def score(self, images: Sequence[ImageArray], prompt: Prompt) -> list[float]: ...
