import pytest

from evaluation.contract import Detection
from evaluation.metrics.compbench.objects import PERSONS, found

BOX = (0.0, 0.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("phrase", "label", "fits"),
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
def test_classes_that_fit_a_phrase(phrase: str, label: str, fits: bool) -> None:
    assert bool(found([Detection(label, 0.9, BOX)], phrase, 0.5, PERSONS)) == fits


def test_best_first_and_from_the_threshold_on() -> None:
    detections = [Detection("cat", score, BOX) for score in (0.5, 0.9, 0.49, 0.7)]
    assert [d.score for d in found(detections, "cat", 0.5, PERSONS)] == [0.9, 0.7, 0.5]
