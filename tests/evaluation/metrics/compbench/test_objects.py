"""Tests for matching detector classes with the objects of a prompt."""

import pytest

from evaluation.contract import Detection
from evaluation.metrics.compbench.objects import PERSON_ALIASES, find_object

BOX = (0.0, 0.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("phrase", "label", "matches"),
    [
        ("brown coat rack", "coat rack", True),
        ("brown coat rack", "rack", True),
        ("brown coat rack", "coat", False),
        ("green apples", "apple", True),
        ("tomatoes", "Tomato", True),
        ("woman", "person", True),
        ("young men", "person", False),
        ("man", "woman", False),
        ("person", "man", False),
        ("cat", "scat", False),
    ],
)
def test_class_matches_phrase(phrase: str, label: str, matches: bool) -> None:
    assert bool(find_object([Detection(label, 0.9, BOX)], phrase, 0.5, PERSON_ALIASES)) == matches


def test_detections_are_sorted_and_thresholded() -> None:
    detections = [Detection("cat", score, BOX) for score in (0.5, 0.9, 0.49, 0.7)]
    assert [d.score for d in find_object(detections, "cat", 0.5, PERSON_ALIASES)] == [0.9, 0.7, 0.5]
