"""T2I-CompBench's 2D spatial score (Huang et al. 2023, arXiv 2307.06350, Sec. 4), from the boxes of any detector.

Matches determine_position of github.com/Karine-Huang/T2I-CompBench at 1b70949: boxes are scaled to a frame whose
shorter side is 480 pixels, with an IoU threshold of 0.1 and a distance threshold of 150 pixels. Many complex prompts
contain "on top of", but the published function recognizes only "on the top of" and scores the other 0. So does this
one.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from evaluation.contract import Detection, Detector, ImageArray, Prompt
from evaluation.judges.rule_chunks import rule_chunks, strip_determiners
from evaluation.metrics.compbench.objects import PERSON_ALIASES, find_object
from pocketdit.errors import ConfigError, UserError

Box = Sequence[float]

FRAME = 480.0
IOU_THRESHOLD = 0.1
DISTANCE_THRESHOLD = 150.0
MIN_SCORE = 0.5

_NEAR = ("next to", "near", "on side of")
_SIDES = ("on the left of", "on the right of", "on the top of", "on the bottom of")
_RELATION = re.compile(r"\b(" + "|".join((*_NEAR, *_SIDES, "on top of")) + r")\b", re.IGNORECASE)


def parse_relation(text: str) -> dict[str, str] | None:
    """Return {"first": "giraffe", "relation": "next to", "second": "lamp"} for "a giraffe next to a lamp".

    The objects are the first noun chunk of the text before the first relation and the first one after it. Returns
    None if the text contains no relation.
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

    Let d be the offset between the centers. Near: 1 if either component of |d| is below 150, else 150 divided by the
    larger one. A side: 0 unless d points in that direction more than across it; then 1 if the IoU is below 0.1, else
    0.1 / IoU.

    Args:
        relation: One of the relations that ``parse_relation`` returns.
        box1: (left, top, right, bottom) in the 480-pixel frame, with y pointing down.
        box2: As ``box1``.
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
    """Return a quarter of each object's detection score plus half of the position score, or 0 if below 0.5."""
    total = 0.25 * score1 + 0.25 * score2 + 0.5 * position
    return total if total >= MIN_SCORE else 0.0


def check_golden(data: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    """Compare ``position_score`` with stored cases.

    Args:
        data: ``data["cases"]`` lists objects with "locality", "box1", "box2" and "score".

    Yields:
        The name of each case, and a description of the difference or None.
    """
    for number, case in enumerate(data["cases"]):
        score = position_score(case["locality"], case["box1"], case["box2"])
        agrees = math.isclose(score, case["score"], rel_tol=1e-9, abs_tol=1e-9)
        yield f"{number}: {case['locality']}", None if agrees else f"{score}, published {case['score']}"


class Spatial:
    """Scores prompts with two objects in a relation by the positions of their detections.

    Each object is represented by its best detection, and two objects never share one. A prompt without a relation
    scores 0.

    Args:
        detector: Detects objects; the published detector is UniDet (Zhou et al. 2022, arXiv 2102.13086).
        threshold: Minimum score of a detection.
        aliases: Further classes of the detector by object name, such as {"phone": ["cell phone"]}; None uses
            ``PERSON_ALIASES``.

    Raises:
        ConfigError: ``threshold`` is outside [0, 1].
    """

    categories = ("spatial",)

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
            "scorer": "spatial",
            "frame": FRAME,
            "iou_threshold": IOU_THRESHOLD,
            "distance_threshold": DISTANCE_THRESHOLD,
            "detection_threshold": threshold,
            "aliases": {name: list(labels) for name, labels in self.aliases.items()},
        }

    def score(self, images: Sequence[ImageArray], prompt: Prompt) -> list[float]:
        try:
            relation = prompt.metadata["relation"]
        except KeyError as error:
            raise UserError(
                f"{prompt.id}: its metadata has no relation; use the prompt set CompBenchPrompts"
            ) from error
        return [0.0 if relation is None else self._score(image, relation) for image in images]

    def _score(self, image: ImageArray, relation: Mapping[str, str]) -> float:
        detections = self.detector.detect(image)
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
