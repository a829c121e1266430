"""Tests GenEval's rules on hand-computed cases, and on the benchmark's own cases if available."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from evaluation.contract import Detection
from evaluation.metrics.geneval.logic import check_golden, find_errors, keep_detections, overlap, relations

DATA = os.environ.get("POCKETDIT_EVALUATION_DATA")

# Computed by hand. The boxes have sides of 10, so the offset is reduced by 0.1 * (10 + 10) = 2 along each axis.
SMALL: dict[str, Any] = {
    "relative_position": [
        {"a": [0, 0, 10, 10], "b": [20, 0, 30, 10], "relations": ["left of"], "iou": 0.0},
        {"a": [20, 20, 30, 30], "b": [0, 0, 10, 10], "relations": ["below", "right of"], "iou": 0.0},
        {"a": [0, 0, 10, 10], "b": [2, 0, 12, 10], "relations": [], "iou": 99 / 143},
        {"a": [0, 0, 10, 10], "b": [0, 0, 10, 10], "relations": [], "iou": 1.0},
        # The offset (-12, 20) is reduced to (-10, 18) and divided by its original length of 23.3: (-0.43, 0.77).
        {"a": [0, 20, 10, 30], "b": [12, 0, 22, 10], "relations": ["below"], "iou": 0.0},
    ],
    "evaluate": [
        {
            "metadata": {"tag": "counting", "include": [{"class": "cup", "count": 2}], "prompt": "two cups"},
            "detections": {"cup": [[[0, 0, 9, 9, 0.95], "red"]]},
            "correct": False,
            "reason": "expected cup>=2, found 1",
        },
        {
            "metadata": {
                "tag": "colors",
                "include": [{"class": "cup", "count": 1, "color": "red"}],
                "prompt": "a red cup",
            },
            "detections": {"cup": [[[0, 0, 9, 9, 0.9], "blue"], [[20, 0, 29, 9, 0.8], "red"]]},
            "correct": False,
            "reason": "expected red cup>=1, found 0 red; and 1 blue",
        },
    ],
}


def detections_of(**groups: list[tuple[float, float, float, float]]) -> dict[str, list[Detection]]:
    return {label: [Detection(label, 0.9, box) for box in boxes] for label, boxes in groups.items()}


def no_colors(_: object) -> list[str]:
    raise AssertionError("colors must not be read")


def test_hand_computed_cases_agree() -> None:
    assert [case for case in check_golden(SMALL) if case[1] is not None] == []
    assert len(list(check_golden(SMALL))) == 7


@pytest.mark.parametrize("kind", ["relations", "iou", "correct", "reason"])
def test_wrong_expectation_is_reported(kind: str) -> None:
    data = json.loads(json.dumps(SMALL))
    if kind in ("relations", "iou"):
        data["relative_position"][0][kind] = {"relations": ["above"], "iou": 0.1}[kind]
    else:
        data["evaluate"][0][kind] = {"correct": True, "reason": "expected cup>=2, found 0"}[kind]
    assert sum(difference is not None for _, difference in check_golden(data)) == 1


@pytest.mark.skipif(DATA is None, reason="POCKETDIT_EVALUATION_DATA is not set")
def test_published_answers_agree() -> None:
    data = json.loads((Path(str(DATA)) / "golden" / "geneval_logic.json").read_text())
    cases = list(check_golden(data))
    assert len(cases) == len(data["relative_position"]) + len(data["evaluate"]) > 600
    assert [case for case in cases if case[1] is not None] == []


def test_swapping_boxes_inverts_relations() -> None:
    first, second = (0.0, 0.0, 30.0, 10.0), (25.0, 40.0, 60.0, 90.0)
    assert relations(first, second) == {"above"}
    assert relations(second, first) == {"below"}
    assert relations(first, second, threshold=1.0) == set()


def test_overlap_includes_end_pixels() -> None:
    assert overlap((3, 3, 3, 3), (3, 3, 3, 3)) == 1
    assert overlap((0, 0, 9, 9), (5, 0, 14, 9)) == 50 / 150


def test_highest_scores_above_the_threshold_are_kept() -> None:
    detections = [Detection("cup", score, (i, 0, i + 5, 5)) for i, score in enumerate([0.2, 0.3, 0.5, 0.9, 0.4])]
    detections.append(Detection("fork", 0.1, (0, 0, 1, 1)))
    assert {label: [item.score for item in group] for label, group in keep_detections(detections, 0.3, 2).items()} == {
        "cup": [0.9, 0.5]
    }
    # The boxes that score 0.5 and 0.4 share 5 of 7 columns with the best box, which is an overlap of 0.71.
    assert [item.score for item in keep_detections(detections, 0.3, 16, max_overlap=0.72)["cup"]] == [0.9, 0.5, 0.4]
    assert [item.score for item in keep_detections(detections, 0.3, 16, max_overlap=0.71)["cup"]] == [0.9]


def test_position_must_be_correct_for_every_pair_and_needs_a_target() -> None:
    clauses = [{"class": "cup", "count": 2}, {"class": "fork", "count": 1, "position": ["left of", 0]}]
    cups, fork = [(100.0, 0.0, 110.0, 10.0), (200.0, 0.0, 210.0, 10.0)], (0.0, 0.0, 10.0, 10.0)
    between = (150.0, 0.0, 160.0, 10.0)
    assert find_errors(detections_of(cup=cups, fork=[fork]), {"include": clauses}, no_colors) == []
    assert find_errors(detections_of(cup=cups, fork=[between]), {"include": clauses}, no_colors) == [
        "expected fork left of target, found right of target"
    ]
    assert find_errors(detections_of(cup=cups[:1], fork=[fork]), {"include": clauses}, no_colors) == [
        "expected cup>=2, found 1",
        "no target for fork to be left of",
    ]


def test_wrong_color_removes_the_target() -> None:
    clauses = [
        {"class": "cup", "count": 1, "color": "red"},
        {"class": "fork", "count": 1, "position": ["left of", 0]},
    ]
    groups = detections_of(cup=[(100, 0, 110, 10)], fork=[(0, 0, 10, 10)])
    assert find_errors(groups, {"include": clauses}, lambda _: ["red"]) == []
    assert len(find_errors(groups, {"include": clauses}, lambda _: ["green"])) == 2


@pytest.mark.parametrize(("number", "correct"), [(1, False), (2, True), (3, False)])
def test_exclude_fails_if_its_count_is_reached(number: int, correct: bool) -> None:
    expectation = {"include": [{"class": "cup", "count": 2}], "exclude": [{"class": "cup", "count": 3}]}
    groups = detections_of(cup=[(0.0, 0.0, 1.0, 1.0)] * number)
    assert (not find_errors(groups, expectation, no_colors)) == correct
