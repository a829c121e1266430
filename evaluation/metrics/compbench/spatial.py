"""T2I-CompBench's 2D spatial score (Huang et al. 2023, arXiv 2307.06350, Sec. 4), from boxes of any detector.

Agrees with determine_position of github.com/Karine-Huang/T2I-CompBench at 1b70949: boxes in the frame whose shorter
side is 480 pixels, an IoU of 0.1 and a distance of 150 pixels. Many complex prompts say "on top of", but the published
function knows "on the top of" alone and gives the other 0; so does this one.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from evaluation.contract import Detection, Detector, ImageArray, Prompt
from evaluation.judges.rule_chunks import bare, rule_chunks
from evaluation.metrics.compbench.objects import PERSONS, found
from pocketdit.errors import ConfigError, UserError

Box = Sequence[float]

FRAME = 480.0
IOU_THRESHOLD = 0.1
DISTANCE_THRESHOLD = 150.0
LEAST = 0.5

_NEAR = ("next to", "near", "on side of")
_SIDES = ("on the left of", "on the right of", "on the top of", "on the bottom of")
_RELATION = re.compile(r"\b(" + "|".join((*_NEAR, *_SIDES, "on top of")) + r")\b", re.IGNORECASE)


def relation(text: str) -> dict[str, str] | None:
    """{"first": "giraffe", "relation": "next to", "second": "lamp"} of "a giraffe next to a lamp".

    The objects are the first noun chunks before and behind the first relation; None where the text has none.
    """
    match = _RELATION.search(text)
    if match is None:
        return None
    first, second = rule_chunks(text[: match.start()]), rule_chunks(text[match.end() :])
    if not first or not second:
        return None
    return {"first": bare(first[0]), "relation": match[0].lower(), "second": bare(second[0])}


def position_score(locality: str, box1: Box, box2: Box) -> float:
    """How well box 1 stands in the relation to box 2, 0 to 1; 0 for a relation that it does not know.

    Boxes (left, top, right, bottom) in the 480-pixel frame, y down; d is the offset of their centres. Near: 1 where
    either |d| is below 150, else 150 over the larger. A side: 0 unless d points there and more there than across;
    then 1 where the IoU is below 0.1, else 0.1 / IoU.
    """
    dx = (box1[0] + box1[2] - box2[0] - box2[2]) / 2
    dy = (box1[1] + box1[3] - box2[1] - box2[3]) / 2
    if locality in _NEAR:
        close = min(abs(dx), abs(dy)) < DISTANCE_THRESHOLD
        return 1.0 if close else DISTANCE_THRESHOLD / max(abs(dx), abs(dy))
    if locality not in _SIDES:
        return 0.0
    along, across = {
        "on the left of": (-dx, dy),
        "on the right of": (dx, dy),
        "on the top of": (-dy, dx),
        "on the bottom of": (dy, dx),
    }[locality]
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
    """A quarter of each object's detection score and half of the relation's; 0 below 0.5."""
    total = 0.25 * score1 + 0.25 * score2 + 0.5 * position
    return total if total >= LEAST else 0.0


def check_golden(data: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    """Runs ``data["cases"]``, each {"locality", "box1", "box2", "score"}; yields its name, and what differs or None."""
    for number, case in enumerate(data["cases"]):
        ours = position_score(case["locality"], case["box1"], case["box2"])
        agrees = math.isclose(ours, case["score"], rel_tol=1e-9, abs_tol=1e-9)
        yield f"{number}: {case['locality']}", None if agrees else f"{ours}, published {case['score']}"


class Spatial:
    """Scores prompts with two objects in a relation by where a detector finds them.

    ``threshold``: the least score of a detection. ``aliases``: further classes of the detector by an object's name,
    such as {"phone": ["cell phone"]}; by default boys, girls, men and women are also found as persons. Each object is
    its best detection; two never share one. A prompt without a relation scores 0.

    The published detector is UniDet (Zhou et al. 2022, arXiv 2102.13086).
    """

    categories = ("spatial",)

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
            "scorer": "spatial",
            "frame": FRAME,
            "iou_threshold": IOU_THRESHOLD,
            "distance_threshold": DISTANCE_THRESHOLD,
            "detection_threshold": threshold,
            "aliases": {name: list(labels) for name, labels in self.aliases.items()},
        }

    def score(self, pictures: Sequence[ImageArray], prompt: Prompt) -> list[float]:
        try:
            asked = prompt.metadata["relation"]
        except KeyError as error:
            raise UserError(f"{prompt.id}: no relation in its metadata; take the prompts of load_prompts") from error
        return [0.0 if asked is None else self._score(picture, asked) for picture in pictures]

    def _score(self, picture: ImageArray, asked: Mapping[str, str]) -> float:
        detections = self.detector.detect(picture)
        first = self._best(detections, asked["first"])
        second = self._best([d for d in detections if d is not first], asked["second"])
        scale = FRAME / min(picture.shape[:2])
        position = 0.0
        if first and second:
            boxes = ([scale * side for side in d.box] for d in (first, second))
            position = position_score(asked["relation"], *boxes)
        return spatial_score(first.score if first else 0.0, second.score if second else 0.0, position)

    def _best(self, detections: Sequence[Detection], phrase: str) -> Detection | None:
        return next(iter(found(detections, phrase, self.threshold, self.aliases)), None)
