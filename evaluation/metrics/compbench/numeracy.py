"""T2I-CompBench++'s numeracy score (Huang et al. 2025, arXiv 2307.06350v3): presence and number of objects."""

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from evaluation.contract import Detector, ImageArray, Prompt
from evaluation.metrics.compbench.objects import PERSON_ALIASES, find_object
from pocketdit.errors import ConfigError, UserError

NUMBERS = {
    word: max(number, 1)
    for number, word in enumerate(("a", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"))
} | {"an": 1}


def read_vocabulary(path: Path) -> dict[str, str]:
    """Read lines such as "mouse - mice" and map both forms to the singular.

    Raises:
        UserError: The file cannot be read, or a line has another format.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); it is T2I-CompBench's new_objects.txt") from error
    names: dict[str, str] = {}
    for number, line in enumerate(filter(str.strip, lines), start=1):
        match = re.fullmatch(r"\s*(\S.*?) - (\S.*?)\s*", line)
        if match is None:
            raise UserError(f'{path}: line {number} is {line!r}; expected the format "mouse - mice"')
        names |= {match[1].lower(): match[1].lower(), match[2].lower(): match[1].lower()}
    return names


def parse_counts(text: str, vocabulary: Mapping[str, str]) -> dict[str, int]:
    """Return {"dog": 2, "tent": 1} for "two dogs and a tent": number words directly before a vocabulary word."""
    words = re.findall(r"[a-z]+", text.lower())
    counts: dict[str, int] = {}
    for number, name in pairwise(words):
        if number in NUMBERS and name in vocabulary:
            counts[vocabulary[name]] = counts.get(vocabulary[name], 0) + NUMBERS[number]
    return counts


def numeracy_score(expected: Mapping[str, int], detected: Mapping[str, int]) -> float:
    """Score n objects: each adds 0.5 / n if it is present at all, and 0.5 / n if its number is right."""
    half = 0.5 / len(expected)
    return sum(
        half * (detected.get(name, 0) > 0) + half * (detected.get(name, 0) == number)
        for name, number in expected.items()
    )


class Numeracy:
    """Scores prompts that count objects by the number of detections.

    Args:
        detector: Detects objects; the published detector is UniDet (Zhou et al. 2022, arXiv 2102.13086).
        threshold: Minimum score of a detection.
        aliases: Further classes of the detector by object name; None uses ``PERSON_ALIASES``.

    Raises:
        ConfigError: ``threshold`` is outside [0, 1].
    """

    categories = ("numeracy",)

    def __init__(
        self,
        detector: Detector,
        threshold: float = 0.5,
        aliases: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        if not 0 <= threshold <= 1:
            raise ConfigError(f"threshold must be a detection score between 0 and 1, not {threshold}")
        self.detector = detector
        self.threshold = threshold
        self.aliases = PERSON_ALIASES if aliases is None else aliases
        self.backends = (detector.backend,)
        self.protocol: Mapping[str, Any] = {
            "scorer": "numeracy",
            "detection_threshold": threshold,
            "aliases": {name: list(labels) for name, labels in self.aliases.items()},
        }

    def score(self, images: Sequence[ImageArray], prompt: Prompt) -> list[float]:
        expected = prompt.metadata.get("objects")
        if not expected:
            raise UserError(f"{prompt.id}: its metadata has no counted objects; use the prompt set CompBenchPrompts")
        return [numeracy_score(expected, self._count(image, expected)) for image in images]

    def _count(self, image: ImageArray, names: Mapping[str, int]) -> dict[str, int]:
        detections = self.detector.detect(image)
        return {name: len(find_object(detections, name, self.threshold, self.aliases)) for name in names}
