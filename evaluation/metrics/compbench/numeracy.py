"""T2I-CompBench++'s numeracy score (Huang et al. 2025, arXiv 2307.06350v3): objects found, and found in number."""

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from evaluation.contract import Detector, ImageArray, Prompt
from evaluation.metrics.compbench.objects import PERSONS, found
from pocketdit.errors import ConfigError, UserError

NUMBERS = {
    word: max(number, 1)
    for number, word in enumerate(("a", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"))
} | {"an": 1}


def read_vocabulary(path: Path) -> dict[str, str]:
    """Objects by either of their forms, from lines "mouse - mice".

    Raises:
        UserError: the file is missing or a line has another form.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); it is T2I-CompBench's new_objects.txt") from error
    names: dict[str, str] = {}
    for number, line in enumerate(filter(str.strip, lines), start=1):
        match = re.fullmatch(r"\s*(\S.*?) - (\S.*?)\s*", line)
        if match is None:
            raise UserError(f'{path}: line {number} is {line!r}; want "mouse - mice"')
        names |= {match[1].lower(): match[1].lower(), match[2].lower(): match[1].lower()}
    return names


def counts(text: str, vocabulary: Mapping[str, str]) -> dict[str, int]:
    """{"dog": 2, "tent": 1} of "two dogs and a tent": number words that stand before an object of the vocabulary."""
    words = re.findall(r"[a-z]+", text.lower())
    asked: dict[str, int] = {}
    for number, name in pairwise(words):
        if number in NUMBERS and name in vocabulary:
            asked[vocabulary[name]] = asked.get(vocabulary[name], 0) + NUMBERS[number]
    return asked


def numeracy_score(asked: Mapping[str, int], seen: Mapping[str, int]) -> float:
    """Of n objects, each gives 0.5 / n where it is seen at all and 0.5 / n where its number is right."""
    half = 0.5 / len(asked)
    return sum(half * (seen.get(name, 0) > 0) + half * (seen.get(name, 0) == number) for name, number in asked.items())


class Numeracy:
    """Scores prompts that count objects by how often a detector finds them.

    ``threshold``: the least score of a detection. ``aliases``: as ``Spatial``'s. The published detector is UniDet
    (Zhou et al. 2022, arXiv 2102.13086).
    """

    categories = ("numeracy",)

    def __init__(
        self,
        detector: Detector,
        threshold: float = 0.5,
        aliases: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        if not 0 <= threshold <= 1:
            raise ConfigError(f"threshold {threshold}: want a detection score from 0 to 1")
        self.detector = detector
        self.threshold = threshold
        self.aliases = PERSONS if aliases is None else aliases
        self.backends = (detector.backend,)
        self.protocol: Mapping[str, Any] = {
            "scorer": "numeracy",
            "detection_threshold": threshold,
            "aliases": {name: list(labels) for name, labels in self.aliases.items()},
        }

    def score(self, pictures: Sequence[ImageArray], prompt: Prompt) -> list[float]:
        asked = prompt.metadata.get("objects")
        if not asked:
            raise UserError(f"{prompt.id}: no counted objects in its metadata; take the prompts of load_prompts")
        scores = []
        for picture in pictures:
            detections = self.detector.detect(picture)
            seen = {name: len(found(detections, name, self.threshold, self.aliases)) for name in asked}
            scores.append(numeracy_score(asked, seen))
        return scores
