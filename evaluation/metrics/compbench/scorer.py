"""What a category's scorer is to T2I-CompBench's metric."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from evaluation.contract import Backend, ImageArray, Prompt


class Scorer(Protocol):
    """Scores pictures of one prompt, 0 to 1 (a cosine may fall below).

    ``categories``: those that it can score. ``backends``: the judges that it asks. ``protocol``: its constants,
    ready for JSON.
    """

    categories: tuple[str, ...]
    backends: tuple[Backend, ...]
    protocol: Mapping[str, Any]

    def score(self, pictures: Sequence[ImageArray], prompt: Prompt) -> list[float]: ...
