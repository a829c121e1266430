"""Judges whether an image matches a short caption.

The rules follow GenEval (Ghosh et al. 2023, arXiv 2310.11513): each object must occur at least as often as required and
no more often than "exclude" allows, and relations must be satisfied. Unlike in GenEval, objects are also identified by
color, and are located by the centroids of their masks.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.scenes.judges.detector import DetectedObject, find_objects


@dataclass(frozen=True)
class Verdict:
    """The judgment of an image.

    Attributes:
        correct: Whether the image matches the caption.
        reason: The first reason why it does not match, or "matches the prompt".
        objects: The detected objects.
    """

    correct: bool
    reason: str
    objects: tuple[DetectedObject, ...]


def judge_image(image: NDArray[np.uint8], expectation: dict[str, Any]) -> Verdict:
    """Compare an image (H, W, 3) with an expectation (see ``datamodules.scenes.expectation``)."""
    objects = tuple(find_objects(image))
    reason = _first_error(objects, expectation)
    return Verdict(reason is None, reason or "matches the prompt", objects)


def _first_error(objects: Sequence[DetectedObject], expectation: dict[str, Any]) -> str | None:
    groups = [_matching(objects, clause) for clause in expectation["include"]]
    for clause, group in zip(expectation["include"], groups, strict=True):
        if len(group) < clause["count"]:
            return f"{_kind(clause)}: found {len(group)}, expected {clause['count']}"
    for clause in expectation.get("exclude", ()):
        number, maximum = len(_matching(objects, clause)), clause["count"] - 1
        if number > maximum:
            return f"{_kind(clause)}: found {number}, expected at most {maximum}"
    for clause, group in zip(expectation["include"], groups, strict=True):
        if "position" in clause:
            relation, reference = clause["position"]
            if not any(axis_cosine(relation, a.center, b.center) > 0.5 for a in group for b in groups[reference]):
                return f"{_kind(clause)}: not {relation} the other object"
    return None


def _kind(clause: dict[str, Any]) -> str:
    return f"{clause['color']} {clause['class']}"


def _matching(objects: Sequence[DetectedObject], clause: dict[str, Any]) -> list[DetectedObject]:
    return [item for item in objects if (item.shape, item.color_name) == (clause["class"], clause["color"])]


def axis_cosine(relation: str, first: tuple[float, float], second: tuple[float, float]) -> float:
    """Return the cosine between the vector from ``second`` to ``first`` and the axis of a relation.

    As in GenEval, a relation is satisfied if the cosine is above 0.5, that is, within 60 degrees of the axis.

    Args:
        relation: One of ``datamodules.scenes.scene.RELATIONS``.
        first: Center (x, y) of the first object.
        second: Center (x, y) of the second object.
    """
    dx, dy = first[0] - second[0], first[1] - second[1]
    along = {"left of": -dx, "right of": dx, "above": -dy, "below": dy}[relation]
    return along / max(math.hypot(dx, dy), 1e-6)
