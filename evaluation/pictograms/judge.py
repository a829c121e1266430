"""Judges whether an image shows exactly the pictograms that a caption describes."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from evaluation.contract import Detection, ImageArray
from evaluation.pictograms.detector import PictogramDetector
from evaluation.scenes.judges.judge import axis_cosine

MIN_SCORE = 0.3  # GenEval's threshold for detections


def first_error(image: ImageArray, expectation: Mapping[str, Any]) -> str | None:
    """Return the reason why an image does not show what a caption describes, or None if it does.

    This is stricter than GenEval's rules, which ignore objects that the prompt does not name: an image must show the
    expected pictograms in the right numbers and nothing else. A relation must hold between every pictogram of one kind
    and every pictogram of the other, within 60 degrees of its axis, as in GenEval.

    Args:
        image: Image (H, W, 3).
        expectation: What the caption describes, in the format of GenEval's metadata.
    """
    detections = PictogramDetector().detect(image)
    unclear = sum(detection.score < MIN_SCORE for detection in detections)
    if unclear:
        return f"{unclear} unrecognizable {'part' if unclear == 1 else 'parts'}"
    counts = Counter(detection.label for detection in detections)
    expected = Counter({clause["class"]: clause["count"] for clause in expectation["include"]})
    for name in sorted(counts | expected):
        if counts[name] != expected[name]:
            return f"{name}: found {counts[name]}, expected {expected[name]}"
    groups = [[d for d in detections if d.label == clause["class"]] for clause in expectation["include"]]
    for clause, group in zip(expectation["include"], groups, strict=True):
        if "position" in clause:
            relation, reference = clause["position"]
            if not _holds(relation, group, groups[reference]):
                return f"{clause['class']}: not {relation} the other pictogram"
    return None


def _holds(relation: str, first: Sequence[Detection], second: Sequence[Detection]) -> bool:
    return all(axis_cosine(relation, _center(a), _center(b)) > 0.5 for a in first for b in second)


def _center(detection: Detection) -> tuple[float, float]:
    left, top, right, bottom = detection.box
    return (left + right) / 2, (top + bottom) / 2
