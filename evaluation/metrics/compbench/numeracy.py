"""T2I-CompBench++'s numeracy score (Huang et al. 2025, arXiv 2307.06350v3): presence and number of objects.

This module reproduces numeracy_eval.py of github.com/Karine-Huang/T2I-CompBench at 1b70949, including its substring
matching. The name of an object matches all classes whose names contain it, so "clock" also counts alarm clocks, and
"bee" counts frisbees.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from evaluation.contract import Backend, Detection, Detector, ImageArray, OpenDetector, Prompt
from evaluation.metrics.compbench.objects import check_threshold, classes_of, detect
from evaluation.metrics.compbench.scorer import Limits, vocabulary_limits
from evaluation.prompts.text_file import read_lines
from pocketdit.errors import UserError

Box = Sequence[float]

# UniDet's classes for objects that the prompts name differently, in the script's spelling.
ALIASES: Mapping[str, str] = {
    "boy": "person",
    "girl": "person",
    "man": "person",
    "woman": "person",
    "ship": "boat",
    "telivision": "tv",
    "goldfish": "fish",
    "painting": "picture",
}
OVERLAP = 0.9  # boxes whose overlap exceeds this fraction are duplicates

NUMBERS = {
    word: max(number, 1)
    for number, word in enumerate(("a", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"))
} | {"an": 1}


def read_vocabulary(path: Path) -> dict[str, str]:
    """Read lines such as "mouse - mice" and map both forms to the singular.

    Raises:
        UserError: The file cannot be read, or a line is malformed.
    """
    names: dict[str, str] = {}
    lines = read_lines(path, "get T2I-CompBench's new_objects.txt")
    for number, line in enumerate(filter(str.strip, lines), start=1):
        match = re.fullmatch(r"\s*(\S.*?) - (\S.*?)\s*", line)
        if match is None:
            raise UserError(f'{path}: line {number} is {line!r}; expected the format "mouse - mice"')
        names |= {match[1].lower(): match[1].lower(), match[2].lower(): match[1].lower()}
    return names


def parse_counts(text: str, vocabulary: Mapping[str, str]) -> dict[str, int]:
    """Return the count of each object: {"dog": 2, "tent": 1} for "two dogs and a tent".

    Only number words directly before a word of the vocabulary are recognized.
    """
    words = re.findall(r"[a-z]+", text.lower())
    counts: dict[str, int] = {}
    for number, name in pairwise(words):
        if number in NUMBERS and name in vocabulary:
            counts[vocabulary[name]] = counts.get(vocabulary[name], 0) + NUMBERS[number]
    return counts


def without_duplicates(detections: Iterable[tuple[str, Box]]) -> list[str]:
    """Return the names of detections, except for those that overlap a previous detection of the same name.

    Two boxes are duplicates if their intersection over union exceeds 0.9, or if their intersection covers more than 0.9
    of one of them. Side lengths include the pixels at both ends.
    """
    kept: list[tuple[str, Box]] = []
    for name, box in detections:
        if not any(name == other and _are_duplicates(box, kept_box) for other, kept_box in kept):
            kept.append((name, box))
    return [name for name, _ in kept]


def _are_duplicates(first: Box, second: Box) -> bool:
    corners = [*map(max, first[:2], second[:2]), *map(min, first[2:], second[2:])]
    shared, areas = _area(corners), (_area(first), _area(second))
    return shared / (sum(areas) - shared) > OVERLAP or shared / min(areas) > OVERLAP


def _area(box: Box) -> float:
    return max(box[2] - box[0] + 1, 0) * max(box[3] - box[1] + 1, 0)


def count_objects(asked: Iterable[str], names: Sequence[str]) -> dict[str, int]:
    """Count the detections of each object that a prompt asks for.

    The objects are counted in the prompt's order. If no detection has an object's name (or its alias), all detections
    whose names contain it are renamed to it, and stay renamed for later objects.

    Args:
        asked: Names of the objects, in the prompt's order.
        names: Names of the detections (see ``without_duplicates``).
    """
    current, counts = list(names), {}
    for name in asked:
        target = ALIASES.get(name, name)
        if target not in current:
            current = [target if target in other else other for other in current]
        counts[name] = current.count(target)
    return counts


def numeracy_score(expected: Mapping[str, int], detected: Mapping[str, int]) -> float:
    """Score n objects. Each adds 0.5 / n if it is present at all, and another 0.5 / n if its count is correct."""
    half = 0.5 / len(expected)
    return sum(
        half * (detected.get(name, 0) > 0) + half * (detected.get(name, 0) == number)
        for name, number in expected.items()
    )


def check_golden(data: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    """Compare the functions above with stored cases.

    Args:
        data: ``data["cases"]`` lists objects with "asked" (the name and number of each object), "detections" (the name
            and box of each detection) and the score "numeracy".

    Yields:
        The name of each case, with a description of the difference, or with None if the case agrees.
    """
    for number, case in enumerate(data["cases"]):
        asked = dict(case["asked"])
        names = without_duplicates((name, box) for name, box in case["detections"])
        score = numeracy_score(asked, count_objects(asked, names))
        agrees = math.isclose(score, case["numeracy"], rel_tol=1e-9, abs_tol=1e-9)
        yield f"{number}: {', '.join(asked)}", None if agrees else f"{score}, published {case['numeracy']}"


class Numeracy:
    """Scores images by comparing the number of detections with the number of objects in the prompt.

    Args:
        detector: Detects objects; the published detector is UniDet (Zhou et al. 2022, arXiv 2102.13086).
        threshold: Minimum score of a detection.

    Raises:
        ConfigError: ``threshold`` is outside [0, 1].
    """

    categories: tuple[str, ...] = ("numeracy",)

    def __init__(self, detector: Detector | OpenDetector, threshold: float = 0.5) -> None:
        check_threshold(threshold)
        self.detector = detector
        self.threshold = threshold
        self.backends: tuple[Backend, ...] = (detector.backend,)
        self.protocol: Mapping[str, Any] = {
            "scorer": "numeracy",
            "detection_threshold": threshold,
            "duplicate_overlap": OVERLAP,
            "aliases": dict(ALIASES),
        }

    def score(self, images: Sequence[ImageArray], prompt: Prompt) -> list[float]:
        """Return the numeracy score of each image.

        Raises:
            UserError: The prompt's metadata has no counted objects.
        """
        asked = _objects(prompt)
        return [numeracy_score(asked, count_objects(asked, self._detect(image, asked))) for image in images]

    def limits(self, prompts: Sequence[Prompt]) -> Limits:
        """Return the scorer's limitations, which include for how many prompts the detector knows all objects."""
        classes = classes_of(self.detector)
        known = None if classes is None else [name.lower() for name in classes]
        seen, best = [], []
        for asked in map(_objects, prompts):
            labels = {name: _class_of(name, known) for name in asked}
            shown = [label for name, label in labels.items() if label is not None for _ in range(asked[name])]
            seen.append(None not in labels.values())
            best.append(numeracy_score(asked, count_objects(asked, shown)))
        return vocabulary_limits(self.detector.backend.name, seen, best, "prompts")

    def _detect(self, image: ImageArray, asked: Iterable[str]) -> list[str]:
        """Return the name of each detection, after removing duplicate detections of the same object."""
        names = list(dict.fromkeys(ALIASES.get(name, name) for name in asked))
        detections: list[Detection] = detect(self.detector, image, names)
        return without_duplicates((d.label.lower(), d.box) for d in detections if d.score >= self.threshold)


def _objects(prompt: Prompt) -> Mapping[str, int]:
    objects: Mapping[str, int] | None = prompt.metadata.get("objects")
    if not objects:
        raise UserError(f"the metadata of prompt {prompt.id} has no counted objects; use a CompBenchPrompts prompt set")
    return objects


def _class_of(name: str, classes: Sequence[str] | None) -> str | None:
    """Return a detector's class for an object, such as "dining table" for "table", or None if it has none.

    Args:
        name: Name of the object.
        classes: The detector's classes; None for an open vocabulary.
    """
    target = ALIASES.get(name, name)
    if classes is None or target in classes:
        return target
    return next((other for other in classes if other.endswith(f" {target}")), None)
