"""Whether a picture shows what a short caption asks for.

The rules follow GenEval (Ghosh et al. 2023, arXiv 2310.11513): at least the asked number of each object, no more
where "exclude" says so, and relations; unlike there, an object is told by its colour as well, and its place by the
centre of its mask.
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
    """Whether a picture shows what was asked, the first reason why not, and what was seen."""

    correct: bool
    reason: str
    found: tuple[DetectedObject, ...]


def judge_image(image: NDArray[np.uint8], expectation: dict[str, Any]) -> Verdict:
    """Compares a picture (H, W, 3) with an expectation (see datamodules.scenes.expectation for its form)."""
    found = tuple(find_objects(image))
    reason = _shortcoming(found, expectation)
    return Verdict(reason is None, reason or "as asked", found)


def _shortcoming(found: Sequence[DetectedObject], expectation: dict[str, Any]) -> str | None:
    groups = [_matching(found, asked) for asked in expectation["include"]]
    for asked, group in zip(expectation["include"], groups, strict=True):
        if len(group) < asked["count"]:
            return f"found {len(group)} {asked['color']} {asked['class']}, asked for {asked['count']}"
    for barred in expectation.get("exclude", ()):
        number, most = len(_matching(found, barred)), barred["count"] - 1
        if number > most:
            return f"found {number} {barred['color']} {barred['class']}, at most {most} allowed"
    for asked, group in zip(expectation["include"], groups, strict=True):
        if "position" in asked:
            relation, reference = asked["position"]
            if not any(axis_share(relation, a.center, b.center) > 0.5 for a in group for b in groups[reference]):
                return f"{asked['color']} {asked['class']} is not {relation} the other object"
    return None


def _matching(found: Sequence[DetectedObject], asked: dict[str, Any]) -> list[DetectedObject]:
    return [item for item in found if (item.shape, item.color_name) == (asked["class"], asked["color"])]


def axis_share(relation: str, first: tuple[float, float], second: tuple[float, float]) -> float:
    """Cosine between the way from ``second`` to ``first``, centres (x, y), and the relation's axis.

    GenEval takes a relation to hold above 0.5, within 60 degrees of the axis.
    """
    dx, dy = first[0] - second[0], first[1] - second[1]
    along = {"left of": -dx, "right of": dx, "above": -dy, "below": dy}[relation]
    return along / max(math.hypot(dx, dy), 1e-6)
