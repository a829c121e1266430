"""T2I-CompBench's 2D spatial score (Huang et al. 2023, arXiv 2307.06350, Sec. 4), from the boxes of any detector.

This module reproduces ``determine_position`` of github.com/Karine-Huang/T2I-CompBench at 1b70949: boxes are scaled to a
frame with a shorter side of 480 pixels, the IoU threshold is 0.1, and the distance threshold is 150 pixels. Many
complex prompts contain "on top of", but the published function recognizes only "on the top of" and scores "on top of"
as 0. So does this module.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from evaluation.contract import Backend, Detection, Detector, ImageArray, OpenDetector, Prompt
from evaluation.judges.rule_chunks import rule_chunks, strip_determiners
from evaluation.metrics.compbench.objects import (
    PERSON_ALIASES,
    check_threshold,
    classes_of,
    detect,
    find_object,
    matching_classes,
)
from evaluation.metrics.compbench.scorer import Limits, vocabulary_limits
from pocketdit.errors import UserError

Box = Sequence[float]

FRAME = 480.0
IOU_THRESHOLD = 0.1
DISTANCE_THRESHOLD = 150.0
MIN_SCORE = 0.5

_NEAR = ("next to", "near", "on side of")
_SIDES = ("on the left of", "on the right of", "on the top of", "on the bottom of")
_RELATION = re.compile(r"\b(" + "|".join((*_NEAR, *_SIDES, "on top of")) + r")\b", re.IGNORECASE)


def parse_relation(text: str) -> dict[str, str] | None:
    """Return the first relation in a text, and its objects.

    The result for "a giraffe next to a lamp" is {"first": "giraffe", "relation": "next to", "second": "lamp"}. The
    objects are the first noun chunk before the relation and the first one after it. The result is None if the relation
    or an object is missing.
    """
    match = _RELATION.search(text)
    if match is None:
        return None
    first, second = rule_chunks(text[: match.start()]), rule_chunks(text[match.end() :])
    if not first or not second:
        return None
    return {
        "first": strip_determiners(first[0]),
        "relation": match[0].lower(),
        "second": strip_determiners(second[0]),
    }


def position_score(relation: str, box1: Box, box2: Box) -> float:
    """Return how well box 1 satisfies a relation to box 2, from 0 to 1; 0 for an unknown relation.

    Let d be the offset between the centers. For relations such as "near", the score is 1 if the absolute value of
    either component of d is below 150, and otherwise 150 divided by the larger one. For a side such as "on the left
    of", the score is 0 unless d points more in that direction than across it. If it does, the score is 1 for an IoU
    below 0.1, and otherwise 0.1 / IoU.

    Args:
        relation: One of the relations that ``parse_relation`` returns.
        box1: (left, top, right, bottom) in the 480-pixel frame, with y pointing down.
        box2: In the same format as ``box1``.
    """
    dx = (box1[0] + box1[2] - box2[0] - box2[2]) / 2
    dy = (box1[1] + box1[3] - box2[1] - box2[3]) / 2
    if relation in _NEAR:
        close = min(abs(dx), abs(dy)) < DISTANCE_THRESHOLD
        return 1.0 if close else DISTANCE_THRESHOLD / max(abs(dx), abs(dy))
    if relation not in _SIDES:
        return 0.0
    along, across = {
        "on the left of": (-dx, dy),
        "on the right of": (dx, dy),
        "on the top of": (-dy, dx),
        "on the bottom of": (dy, dx),
    }[relation]
    if along <= abs(across):
        return 0.0
    overlap = _iou(box1, box2)
    return 1.0 if overlap < IOU_THRESHOLD else IOU_THRESHOLD / overlap


def _iou(box1: Box, box2: Box) -> float:
    width = max(0.0, min(box1[2], box2[2]) - max(box1[0], box2[0]))
    height = max(0.0, min(box1[3], box2[3]) - max(box1[1], box2[1]))
    shared = width * height
    return shared / (_area(box1) + _area(box2) - shared) if shared else 0.0


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def spatial_score(score1: float, score2: float, position: float) -> float:
    """Return a quarter of each object's detection score plus half of the position score. Totals below 0.5 become 0."""
    total = 0.25 * score1 + 0.25 * score2 + 0.5 * position
    return total if total >= MIN_SCORE else 0.0


def check_golden(data: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    """Compare ``position_score`` with stored cases.

    Args:
        data: ``data["cases"]`` lists objects with "locality", "box1", "box2" and "score".

    Yields:
        The name of each case, with a description of the difference, or with None if the case agrees.
    """
    for number, case in enumerate(data["cases"]):
        score = position_score(case["locality"], case["box1"], case["box2"])
        agrees = math.isclose(score, case["score"], rel_tol=1e-9, abs_tol=1e-9)
        yield f"{number}: {case['locality']}", None if agrees else f"{score}, published {case['score']}"


class Spatial:
    """Scores images by the positions of the two objects that the prompt relates to each other.

    Each object is represented by its best detection, and the two objects never share a detection. A prompt without a
    relation scores 0.

    Args:
        detector: Detects objects; the published detector is UniDet (Zhou et al. 2022, arXiv 2102.13086).
        threshold: Minimum score of a detection.
        aliases: Mapping from object names to additional classes of the detector, such as {"phone": ["cell phone"]};
            None uses ``PERSON_ALIASES``.

    Raises:
        ConfigError: ``threshold`` is outside [0, 1].
    """

    categories: tuple[str, ...] = ("spatial",)

    def __init__(
        self,
        detector: Detector | OpenDetector,
        threshold: float = 0.5,
        aliases: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        check_threshold(threshold)
        self.detector = detector
        self.threshold = threshold
        self.aliases = PERSON_ALIASES if aliases is None else aliases
        self.backends: tuple[Backend, ...] = (detector.backend,)
        self.protocol: Mapping[str, Any] = {
            "scorer": "spatial",
            "frame": FRAME,
            "iou_threshold": IOU_THRESHOLD,
            "distance_threshold": DISTANCE_THRESHOLD,
            "detection_threshold": threshold,
            "aliases": {name: list(labels) for name, labels in self.aliases.items()},
        }

    def score(self, images: Sequence[ImageArray], prompt: Prompt) -> list[float]:
        """Return the spatial score of each image.

        Raises:
            UserError: The prompt's metadata has no "relation" entry.
        """
        relation = _relation(prompt)
        return [0.0 if relation is None else self._score(image, relation) for image in images]

    def limits(self, prompts: Sequence[Prompt]) -> Limits:
        """Return the scorer's limitations, which include for how many relations the detector knows both objects."""
        relations = [_relation(prompt) for prompt in prompts]
        classes = classes_of(self.detector)
        known = None if classes is None else {name.lower() for name in classes}
        seen = [relation is not None and self._knows(relation, known) for relation in relations]
        best = [_best_score(relation) if is_seen else 0.0 for relation, is_seen in zip(relations, seen, strict=True)]
        parsed = [is_seen for relation, is_seen in zip(relations, seen, strict=True) if relation is not None]
        return vocabulary_limits(self.detector.backend.name, parsed, best, "relations")

    def _knows(self, relation: Mapping[str, str], classes: set[str] | None) -> bool:
        """Return whether the detector has classes for both objects. ``classes`` is None for an open vocabulary."""
        names = (relation["first"], relation["second"])
        return classes is None or all(matching_classes(name, self.aliases) & classes for name in names)

    def _score(self, image: ImageArray, relation: Mapping[str, str]) -> float:
        detections = detect(self.detector, image, list(dict.fromkeys((relation["first"], relation["second"]))))
        first = self._best(detections, relation["first"])
        second = self._best([d for d in detections if d is not first], relation["second"])
        scale = FRAME / min(image.shape[:2])
        position = 0.0
        if first and second:
            boxes = ([scale * side for side in d.box] for d in (first, second))
            position = position_score(relation["relation"], *boxes)
        return spatial_score(first.score if first else 0.0, second.score if second else 0.0, position)

    def _best(self, detections: Sequence[Detection], phrase: str) -> Detection | None:
        return next(iter(find_object(detections, phrase, self.threshold, self.aliases)), None)


def _relation(prompt: Prompt) -> Mapping[str, str] | None:
    try:
        relation: Mapping[str, str] | None = prompt.metadata["relation"]
    except KeyError as error:
        raise UserError(
            f"the metadata of prompt {prompt.id} has no relation; use a CompBenchPrompts prompt set"
        ) from error
    return relation


def _best_score(relation: Mapping[str, str] | None) -> float:
    """Return the score of a correct image whose detections have score 1, or 0.5 if the relation is unknown."""
    known = relation is not None and relation["relation"] in (*_NEAR, *_SIDES)
    return spatial_score(1.0, 1.0, float(known))
