"""The interface between T2I-CompBench's metric and the scorers of its categories."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from evaluation.contract import Backend, ImageArray, Prompt


@dataclass(frozen=True)
class Limits:
    """Limitations that may make a scorer miss something that the prompts ask for.

    Attributes:
        best: For each prompt, the score of images that show exactly what it asks for.
        protocol: Entries for the protocol, serializable as JSON.
        notes: Sentences for the reader of the result.
    """

    best: tuple[float, ...]
    protocol: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


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

    def limits(self, prompts: Sequence[Prompt]) -> Limits:
        """Return the limitations that may make the scorer miss something that the prompts ask for."""
        ...


def vocabulary_limits(name: str, seen: Sequence[bool], best: Sequence[float], kind: str) -> Limits:
    """Return the limitations of a detector that may not know all objects.

    Args:
        name: Name of the detector.
        seen: For each prompt that needs the detector, whether the detector knows all objects in the prompt.
        best: For each prompt, the score of images that show exactly what it asks for.
        kind: Plural noun for the elements of ``seen``, such as "prompts".
    """
    protocol = {f"visible_{kind}": sum(seen), f"{kind}_with_objects": len(seen)}
    note = f"{name} knows all the objects in {sum(seen)} of {len(seen)} {kind}."
    return Limits(tuple(best), protocol, () if all(seen) else (note,))
