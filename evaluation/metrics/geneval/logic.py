"""GenEval's rules, which compare the objects detected in an image with those that the prompt asks for.

The rules are those of Ghosh et al. 2023 (arXiv 2310.11513), as implemented in djghosh13/geneval. This module needs no
models or files. Detections are grouped by class and sorted by descending score. The order matters, because only the
detections with the highest scores are checked for color and position.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from evaluation.contract import COLORS, Detection

Box = tuple[float, float, float, float]
DetectionsByClass = Mapping[str, Sequence[Detection]]
ReadColors = Callable[[Sequence[Detection]], list[str]]

POSITION_THRESHOLD = 0.1
_MIN_OFFSET = 1e-3  # pixels
_MIN_COMPONENT = 0.5  # minimum component of the reduced offset, relative to the length of the full offset


def keep_detections(
    detections: Sequence[Detection], threshold: float, max_per_class: int, max_overlap: float = 1.0
) -> dict[str, list[Detection]]:
    """Select detections, grouped by class and sorted by descending score.

    Args:
        detections: All detections of an image.
        threshold: Only detections with a higher score are kept.
        max_per_class: Maximum number of detections per class. Those with the highest scores are kept.
        max_overlap: A box is dropped if its intersection over union with a box of the same class and a higher score
            reaches this value. 1 keeps all boxes, as the benchmark does.
    """
    groups: dict[str, list[Detection]] = {}
    # Sorting and then reversing puts equal scores in the benchmark's order, with the later detection first.
    for detection in sorted(detections, key=lambda detection: detection.score)[::-1]:
        if detection.score > threshold:
            groups.setdefault(detection.label, []).append(detection)
    return {label: _drop_overlapping(group[:max_per_class], max_overlap) for label, group in groups.items()}


def _drop_overlapping(group: Sequence[Detection], max_overlap: float) -> list[Detection]:
    kept: list[Detection] = []
    for detection in group:
        if max_overlap == 1 or all(overlap(detection.box, other.box) < max_overlap for other in kept):
            kept.append(detection)
    return kept


def overlap(first: Box, second: Box) -> float:
    """Return the intersection over union. Side lengths include both end pixels: a box from 3 to 3 is one pixel wide."""
    edges = np.array([first, second])
    shared = _area((*edges[:, :2].max(axis=0), *edges[:, 2:].min(axis=0)))
    union = _area(first) + _area(second) - shared
    return shared / union if union else 0.0


def _area(box: Box) -> float:
    left, top, right, bottom = map(float, box)
    return max(right - left + 1, 0) * max(bottom - top + 1, 0)


def relations(first: Box, second: Box, threshold: float = POSITION_THRESHOLD) -> set[str]:
    """Return the relations of ``first`` to ``second``: up to two of "left of", "right of", "above" and "below".

    Along each axis, the offset d between the centers is reduced toward 0 by ``threshold`` times the sum of both
    boxes' sides. The result is divided by |d|, the length of the full vector. A relation is satisfied if the component
    in its direction exceeds 0.5.
    """
    boxes = np.array([first, second], dtype=np.float64).reshape(2, 2, 2)  # box, corner, axis
    sides = np.abs(boxes[:, 1] - boxes[:, 0]).sum(axis=0)
    offset = boxes[0].mean(axis=0) - boxes[1].mean(axis=0)
    reduced = np.sign(offset) * np.maximum(np.abs(offset) - threshold * sides, 0)
    if np.all(np.abs(reduced) < _MIN_OFFSET):
        return set()
    dx, dy = reduced / np.linalg.norm(offset)
    satisfied = {
        "left of": dx < -_MIN_COMPONENT,
        "right of": dx > _MIN_COMPONENT,
        "above": dy < -_MIN_COMPONENT,
        "below": dy > _MIN_COMPONENT,
    }
    return {relation for relation, is_satisfied in satisfied.items() if is_satisfied}


def find_errors(
    detections: DetectionsByClass,
    expectation: Mapping[str, Any],
    read_colors: ReadColors,
    threshold: float = POSITION_THRESHOLD,
) -> list[str]:
    """Return the reasons why an image does not match its prompt, or an empty list if it matches.

    The reasons are in the benchmark's wording. An "include" clause with count n must be satisfied by the n
    highest-scoring boxes of its class. An "exclude" clause with count n fails if there are at least n boxes of its
    class.

    Args:
        detections: Detections selected by ``keep_detections``.
        expectation: A line of evaluation_metadata.jsonl.
        read_colors: Returns the color of each detection of one class. Called only if the prompt names a color and
            enough objects were detected.
        threshold: See ``relations``.
    """
    errors: list[str] = []
    groups: list[Sequence[Detection] | None] = []
    for clause in expectation.get("include", ()):
        group = detections.get(clause["class"], ())[: clause["count"]]
        reasons = _clause_errors(group, clause, groups, read_colors, threshold)
        errors += reasons
        groups.append(None if reasons else group)
    for clause in expectation.get("exclude", ()):
        label, number = clause["class"], len(detections.get(clause["class"], ()))
        if number >= clause["count"]:
            errors.append(f"expected {label}<{clause['count']}, found {number}")
    return errors


def _clause_errors(
    group: Sequence[Detection],
    clause: Mapping[str, Any],
    groups: Sequence[Sequence[Detection] | None],
    read_colors: ReadColors,
    threshold: float,
) -> list[str]:
    """Return the first error of an "include" clause, checking number, color and position in this order."""
    label, count = clause["class"], clause["count"]
    if len(group) < count:
        return [f"expected {label}>={count}, found {len(group)}"]
    if "color" in clause:
        color, colors = clause["color"], read_colors(group)
        if colors.count(color) < count:
            others = ", ".join(f"{colors.count(name)} {name}" for name in COLORS if name in colors)
            return [f"expected {color} {label}>={count}, found {colors.count(color)} {color}; and {others}"]
    if "position" in clause:
        relation, reference = clause["position"]
        targets = groups[reference]
        if targets is None:
            return [f"no target for {label} to be {relation}"]
        for item in group:
            for target in targets:
                actual = relations(item.box, target.box, threshold)
                if relation not in actual:
                    return [f"expected {label} {relation} target, found {' and '.join(sorted(actual))} target"]
    return []


def check_golden(data: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    """Compare the functions above with stored cases.

    Args:
        data: ``data["relative_position"]`` lists boxes "a" and "b", the "relations" of a to b, and their "iou".
            ``data["evaluate"]`` lists the "metadata" of a prompt; the "detections" of each class, in the form [[left,
            top, right, bottom, score], color], above the threshold and in descending order; whether the image is
            "correct"; and the "reason" with one line per error. An empty reason is not compared. It is empty in cases
            where the benchmark does not fix the order of the words.

    Yields:
        The name of each case, with a description of the difference, or with None if the case agrees.
    """
    for number, case in enumerate(data.get("relative_position", ())):
        computed = sorted(relations(case["a"], case["b"])), overlap(case["a"], case["b"])
        stored = sorted(case["relations"]), case["iou"]
        same = computed[0] == stored[0] and abs(computed[1] - stored[1]) < 1e-9
        yield f"relative_position {number}", None if same else f"{computed}, not {stored}"
    for number, case in enumerate(data.get("evaluate", ())):
        yield f"evaluate {number}: {case['metadata']['prompt']}", _golden_difference(case)


def _golden_difference(case: Mapping[str, Any]) -> str | None:
    detections: dict[str, list[Detection]] = {}
    colors: dict[int, str] = {}  # keyed by object identity, because two detections may differ only in color
    for label, items in case["detections"].items():
        for (left, top, right, bottom, score), color in items:
            detection = Detection(label, score, (left, top, right, bottom))
            detections.setdefault(label, []).append(detection)
            colors[id(detection)] = color
    errors = find_errors(detections, case["metadata"], lambda group: [colors[id(item)] for item in group])
    if (not errors) != case["correct"]:
        return f"correct is {not errors}, not {case['correct']} ({'; '.join(errors)})"
    if case["reason"] and "\n".join(errors) != case["reason"]:
        return f"reason {errors}, not {case['reason'].splitlines()}"
    return None
