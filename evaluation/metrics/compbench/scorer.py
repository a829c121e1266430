"""The interface between T2I-CompBench's metric and the scorers of its categories."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from evaluation.contract import Backend, ImageArray, Prompt


class Scorer(Protocol):
    """Scores the images of a prompt.

    Scores range from 0 to 1, except that cosines can be negative.

    Attributes:
        categories: Categories that the scorer supports.
        backends: Judges that the scorer queries.
        protocol: Constants of the scorer, serializable as JSON.
    """

    categories: tuple[str, ...]
    backends: tuple[Backend, ...]
    protocol: Mapping[str, Any]

    def score(self, images: Sequence[ImageArray], prompt: Prompt) -> list[float]:
        """Return the score of each image.

        Raises:
            UserError: The prompt or its metadata lacks what the scorer needs.
        """
        ...
