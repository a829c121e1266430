"""GenEval's verdict on a picture: what was detected against what its prompt asks for.

The rules of Ghosh et al. 2023 (arXiv 2310.11513) as djghosh13/geneval computes them, without models or files.
Detections are grouped by class; the order within a class is by falling score and matters: colours and positions are
those of the highest scores only.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from evaluation.contract import COLORS, Detection

Box = tuple[float, float, float, float]
Found = Mapping[str, Sequence[Detection]]
ReadColors = Callable[[Sequence[Detection]], list[str]]

POSITION_THRESHOLD = 0.1
_NO_OFFSET = 1e-3  # pixels
_LEAST_COMPONENT = 0.5  # of the shrunk offset over the length of the whole one


def kept(
    detections: Sequence[Detection], threshold: float, most: int, max_overlap: float = 1.0
) -> dict[str, list[Detection]]:
    """What counts as found, by class: scores above ``threshold``, the ``most`` highest, falling.

    ``max_overlap``: a box that overlaps one of the same class and a higher score by so much (``overlap``) is dropped;
    1 keeps all, as the benchmark does.
    """
    groups: dict[str, list[Detection]] = {}
    # Reversed, so that equal scores come in the benchmark's order: the later first.
    for detection in sorted(detections, key=lambda detection: detection.score)[::-1]:
        if detection.score > threshold:
            groups.setdefault(detection.label, []).append(detection)
    return {label: _apart(group[:most], max_overlap) for label, group in groups.items()}


def _apart(group: Sequence[Detection], max_overlap: float) -> list[Detection]:
    apart: list[Detection] = []
    for detection in group:
        if max_overlap == 1 or all(overlap(detection.box, other.box) < max_overlap for other in apart):
            apart.append(detection)
    return apart


def overlap(first: Box, second: Box) -> float:
    """Intersection over union; sides count both end pixels, so that a box from 3 to 3 is one pixel wide."""
    edges = np.array([first, second])
    shared = _area((*edges[:, :2].max(axis=0), *edges[:, 2:].min(axis=0)))
    union = _area(first) + _area(second) - shared
    return shared / union if union else 0.0


def _area(box: Box) -> float:
    left, top, right, bottom = map(float, box)
    return max(right - left + 1, 0) * max(bottom - top + 1, 0)


def relations(first: Box, second: Box, threshold: float = POSITION_THRESHOLD) -> set[str]:
    """Relations of ``first`` to ``second``: none, one, or two of "left of", "right of", "above" and "below".

    Per axis, the offset d between the centres shrinks towards 0 by ``threshold`` times the sum of both boxes' sides;
    a relation holds where the shrunk offset over |d| (the length of the whole vector, not shrunk) exceeds 0.5.
    """
    boxes = np.array([first, second], dtype=np.float64).reshape(2, 2, 2)  # box, corner, axis
    sides = np.abs(boxes[:, 1] - boxes[:, 0]).sum(axis=0)
    offset = boxes[0].mean(axis=0) - boxes[1].mean(axis=0)
    shrunk = np.sign(offset) * np.maximum(np.abs(offset) - threshold * sides, 0)
    if np.all(np.abs(shrunk) < _NO_OFFSET):
        return set()
    dx, dy = shrunk / np.linalg.norm(offset)
    holds = {
        "left of": dx < -_LEAST_COMPONENT,
        "right of": dx > _LEAST_COMPONENT,
        "above": dy < -_LEAST_COMPONENT,
        "below": dy > _LEAST_COMPONENT,
    }
    return {relation for relation, true in holds.items() if true}


def shortcomings(
    found: Found, expectation: Mapping[str, Any], read_colors: ReadColors, threshold: float = POSITION_THRESHOLD
) -> list[str]:
    """Why a picture is not what its prompt asks for, in the benchmark's own words; nothing where it is correct.

    ``expectation``: a line of evaluation_metadata.jsonl. Every "include" must hold, for as many boxes of the highest
    scores as its count; an "exclude" fails where its count is reached. ``read_colors``: the colour of each detection
    of one class; asked only where the prompt names a colour and enough objects are there. ``threshold``: of
    ``relations``.
    """
    reasons: list[str] = []
    groups: list[Sequence[Detection] | None] = []
    for asked in expectation.get("include", ()):
        group = found.get(asked["class"], ())[: asked["count"]]
        wrong = _wrong(group, asked, groups, read_colors, threshold)
        reasons += wrong
        groups.append(None if wrong else group)
    for barred in expectation.get("exclude", ()):
        label, number = barred["class"], len(found.get(barred["class"], ()))
        if number >= barred["count"]:
            reasons.append(f"expected {label}<{barred['count']}, found {number}")
    return reasons


def _wrong(
    group: Sequence[Detection],
    asked: Mapping[str, Any],
    groups: Sequence[Sequence[Detection] | None],
    read_colors: ReadColors,
    threshold: float,
) -> list[str]:
    """What is wrong with the boxes of one "include": the first of number, colour and position that fails."""
    label, count = asked["class"], asked["count"]
    if len(group) < count:
        return [f"expected {label}>={count}, found {len(group)}"]
    if "color" in asked:
        color, colors = asked["color"], read_colors(group)
        if colors.count(color) < count:
            seen = ", ".join(f"{colors.count(name)} {name}" for name in COLORS if name in colors)
            return [f"expected {color} {label}>={count}, found {colors.count(color)} {color}; and {seen}"]
    if "position" in asked:
        relation, reference = asked["position"]
        targets = groups[reference]
        if targets is None:
            return [f"no target for {label} to be {relation}"]
        for item in group:
            for target in targets:
                true = relations(item.box, target.box, threshold)
                if relation not in true:
                    return [f"expected {label} {relation} target, found {' and '.join(sorted(true))} target"]
    return []


def check_golden(data: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    """Runs stored cases through the functions above: the name of each, and None or what differs.

    ``data["relative_position"]``: boxes "a" and "b", the "relations" of a to b, and their "iou".
    ``data["evaluate"]``: "metadata" of a prompt; "detections" by class, each [[left, top, right, bottom, score],
    colour], already thresholded and in falling order; whether that is "correct" and the "reason", lines joined, which
    is empty too where the benchmark's own wording has no fixed order.
    """
    for number, case in enumerate(data.get("relative_position", ())):
        found = sorted(relations(case["a"], case["b"])), overlap(case["a"], case["b"])
        stored = sorted(case["relations"]), case["iou"]
        same = found[0] == stored[0] and abs(found[1] - stored[1]) < 1e-9
        yield f"relative_position {number}", None if same else f"{found}, not {stored}"
    for number, case in enumerate(data.get("evaluate", ())):
        yield f"evaluate {number}: {case['metadata']['prompt']}", _difference(case)


def _difference(case: Mapping[str, Any]) -> str | None:
    found: dict[str, list[Detection]] = {}
    colors: dict[int, str] = {}  # by identity: two detections may be equal in all but colour
    for label, items in case["detections"].items():
        for (left, top, right, bottom, score), color in items:
            detection = Detection(label, score, (left, top, right, bottom))
            found.setdefault(label, []).append(detection)
            colors[id(detection)] = color
    reasons = shortcomings(found, case["metadata"], lambda group: [colors[id(item)] for item in group])
    if (not reasons) != case["correct"]:
        return f"correct is {not reasons}, not {case['correct']} ({'; '.join(reasons)})"
    if case["reason"] and "\n".join(reasons) != case["reason"]:
        return f"reason {reasons}, not {case['reason'].splitlines()}"
    return None
