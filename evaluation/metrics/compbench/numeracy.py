"""T2I-CompBench++'s numeracy score (Huang et al. 2025, arXiv 2307.06350v3): presence and number of objects."""

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

from evaluation.contract import ImageArray, Prompt
from evaluation.metrics.compbench.detection_scorer import DetectionScorer
from pocketdit.errors import UserError

NUMBERS = {
    word: max(number, 1)
    for number, word in enumerate(("a", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"))
} | {"an": 1}


def read_vocabulary(path: Path) -> dict[str, str]:
    """Read lines such as "mouse - mice" and map both forms to the singular.

    Raises:
        UserError: The file cannot be read, or a line is malformed.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); get T2I-CompBench's new_objects.txt") from error
    names: dict[str, str] = {}
    for number, line in enumerate(filter(str.strip, lines), start=1):
        match = re.fullmatch(r"\s*(\S.*?) - (\S.*?)\s*", line)
        if match is None:
            raise UserError(f'{path}: line {number} is {line!r}; expected the format "mouse - mice"')
        names |= {match[1].lower(): match[1].lower(), match[2].lower(): match[1].lower()}
    return names


def parse_counts(text: str, vocabulary: Mapping[str, str]) -> dict[str, int]:
    """Return the number of each object: {"dog": 2, "tent": 1} for "two dogs and a tent".

    Only number words directly before a word of the vocabulary are recognized.
    """
    words = re.findall(r"[a-z]+", text.lower())
    counts: dict[str, int] = {}
    for number, name in pairwise(words):
        if number in NUMBERS and name in vocabulary:
            counts[vocabulary[name]] = counts.get(vocabulary[name], 0) + NUMBERS[number]
    return counts


def numeracy_score(expected: Mapping[str, int], detected: Mapping[str, int]) -> float:
    """Score n objects. Each adds 0.5 / n if it is present at all, and 0.5 / n if its number is correct."""
    half = 0.5 / len(expected)
    return sum(
        half * (detected.get(name, 0) > 0) + half * (detected.get(name, 0) == number)
        for name, number in expected.items()
    )


class Numeracy(DetectionScorer):
    """Scores images by comparing the number of detections with the number of objects in the prompt.

    See ``DetectionScorer`` for the arguments.
    """

    categories: tuple[str, ...] = ("numeracy",)
    constants: ClassVar[Mapping[str, Any]] = {"scorer": "numeracy"}

    def score(self, images: Sequence[ImageArray], prompt: Prompt) -> list[float]:
        """Return the numeracy score of each image.

        Raises:
            UserError: The prompt's metadata has no counted objects.
        """
        expected = prompt.metadata.get("objects")
        if not expected:
            raise UserError(f"{prompt.id}: its metadata has no counted objects; use a CompBenchPrompts prompt set")
        return [numeracy_score(expected, self._count(image, expected)) for image in images]

    def _count(self, image: ImageArray, names: Mapping[str, int]) -> dict[str, int]:
        detections = self.detector.detect(image)
        return {name: len(self.find(detections, name)) for name in names}
