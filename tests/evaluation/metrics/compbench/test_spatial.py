import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.contract import ImageArray, Prompt
from evaluation.metrics.compbench.spatial import Spatial, check_golden, position_score, relation, spatial_score
from evaluation.scenes.judges.detector import SceneDetector
from pocketdit.errors import ConfigError, UserError

# Worked out by hand: squares of side 100 by their left top corner.
CASES: list[tuple[str, tuple[float, float], tuple[float, float], float]] = [
    ("on the left of", (0, 0), (200, 0), 1.0),
    ("on the left of", (200, 0), (0, 0), 0.0),
    ("on the right of", (200, 0), (0, 0), 1.0),
    ("on the top of", (0, 0), (0, 200), 1.0),
    ("on the bottom of", (0, 200), (0, 0), 1.0),
    ("on top of", (0, 0), (0, 200), 0.0),
    ("on the left of", (0, 0), (200, 200), 0.0),  # as far across as along
    ("on the left of", (0, 0), (50, 0), 0.1 / (50 / 150)),
    ("on the top of", (0, 0), (0, 90), 1.0),  # IoU 10 / 190, below 0.1
    ("next to", (0, 0), (300, 149), 1.0),
    ("next to", (0, 0), (300, 150), 0.5),
    ("near", (0, 0), (200, 300), 0.5),
    ("on side of", (300, 200), (0, 0), 0.5),
    ("inside", (0, 0), (200, 0), 0.0),
]


def golden(cases: list[tuple[str, tuple[float, float], tuple[float, float], float]]) -> dict[str, Any]:
    return {
        "cases": [
            {"locality": name, "box1": [a, b, a + 100, b + 100], "box2": [c, d, c + 100, d + 100], "score": score}
            for name, (a, b), (c, d), score in cases
        ]
    }


def test_hand_written_cases() -> None:
    outcomes = dict(check_golden(golden(CASES)))
    assert len(outcomes) == len(CASES)
    assert {name: what for name, what in outcomes.items() if what} == {}


def test_a_case_that_differs_is_named() -> None:
    wrong = [(*CASES[0][:3], 0.25), CASES[1]]
    assert list(check_golden(golden(wrong))) == [
        ("0: on the left of", "1.0, published 0.25"),
        ("1: on the left of", None),
    ]


def test_the_published_function_agrees(published: Path) -> None:
    data = json.loads((published / "golden" / "t2i_2d_position.json").read_text())
    outcomes = list(check_golden(data))
    assert len(outcomes) == 134
    assert [outcome for outcome in outcomes if outcome[1]] == []


@pytest.mark.parametrize(
    ("one", "other"), [("on the left of", "on the right of"), ("on the top of", "on the bottom of"), ("near", "near")]
)
def test_a_relation_reads_the_same_from_the_other_end(one: str, other: str) -> None:
    rng = np.random.default_rng(0)
    scores = []
    for corners in rng.uniform(0, 380, (300, 4)):
        a, b = ((x, y, x + 90, y + 60) for x, y in (corners[:2], corners[2:]))
        scores.append(position_score(one, a, b))
        assert scores[-1] == pytest.approx(position_score(other, b, a))
    assert 0 < min(scores[i] for i in np.flatnonzero(scores)) < max(scores) == 1


def test_boxes_without_area_do_not_fail() -> None:
    assert position_score("on the left of", (5, 5, 5, 5), (5, 5, 5, 5)) == 0
    assert position_score("on the left of", (5, 5, 5, 5), (9, 5, 9, 5)) == 1


@pytest.mark.parametrize(
    ("parts", "score"),
    [((0.9, 0.7, 1.0), 0.9), ((0.9, 0.9, 0.0), 0.0), ((1.0, 1.0, 0.0), 0.5), ((0.5, 0.5, 0.4), 0.0)],
)
def test_sum(parts: tuple[float, float, float], score: float) -> None:
    assert spatial_score(*parts) == pytest.approx(score)


@pytest.mark.parametrize(
    ("text", "first", "name", "second"),
    [
        ("a giraffe next to a lamp", "giraffe", "next to", "lamp"),
        ("The round clock was on the right of the picture frame.", "round clock", "on the right of", "picture frame"),
        ("The cone was suspended in mid-air near the pyramid and the cube.", "cone", "near", "pyramid"),
        ("The cat snuggled up next to the warm blanket.", "cat", "next to", "warm blanket"),
    ],
)
def test_relation_of_a_prompt(text: str, first: str, name: str, second: str) -> None:
    assert relation(text) == {"first": first, "relation": name, "second": second}


def test_no_relation() -> None:
    assert relation("The nearby sun sank below the horizon.") is None


def prompt(text: str) -> Prompt:
    return Prompt("spatial-0000", text, {"category": "spatial", "relation": relation(text)})


LEFT = (("circle", "red", 30, 64), ("square", "blue", 98, 64))


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("a circle on the left of a square", True),
        ("a red circle on the left of a blue square", True),
        ("a square on the right of a circle", True),
        ("a circle on the right of a square", False),
        ("a circle on the top of a square", False),
        ("a circle on the left of a star", False),
        ("circles next to squares", True),
        ("a circle near a square", True),
    ],
)
def test_detected_objects(drawn: Callable[..., ImageArray], text: str, good: bool) -> None:
    """A red circle left of a blue square, found by rules."""
    shown = drawn(*LEFT)
    confidence = [found.score for found in SceneDetector().detect(shown)]
    (score,) = Spatial(SceneDetector()).score([shown], prompt(text))
    expected = 0.25 * sum(confidence) + 0.5
    assert score == pytest.approx(expected if good else 0)
    assert 0.9 < expected < 1


def test_an_object_stands_in_no_relation_to_itself(drawn: Callable[..., ImageArray]) -> None:
    pair = Prompt("x", "", {"relation": {"first": "circle", "relation": "near", "second": "circle"}})
    one, two = drawn(LEFT[0]), drawn(LEFT[0], ("circle", "blue", 98, 64))
    alone, both = Spatial(SceneDetector()).score([one, two], pair)
    assert alone == 0 < both


def test_the_frame_is_480_pixels_whatever_the_picture(drawn: Callable[..., ImageArray]) -> None:
    """Circles 44 pixels apart both ways: 165 in the frame of a 128-pixel picture, but 132 of a 160-pixel one."""
    near = prompt("a circle near a square")
    places = (("circle", "red", 30, 30), ("square", "blue", 74, 74))
    small, large = drawn(*places), drawn(*places, width=160, height=160)
    detector = SceneDetector()
    boxes = [{found.label: np.array(found.box) for found in detector.detect(shown)} for shown in (small, large)]
    offsets = [(b["square"] - b["circle"]).reshape(2, 2).mean(0) * s for b, s in zip(boxes, (3.75, 3), strict=True)]
    assert min(offsets[0]) > 150 > max(offsets[1])
    certain = [0.25 * sum(found.score for found in detector.detect(shown)) for shown in (small, large)]
    assert Spatial(detector).score([small, large], near) == [
        pytest.approx(certain[0] + 0.5 * 150 / max(offsets[0])),
        pytest.approx(certain[1] + 0.5),
    ]


def test_threshold_and_aliases(drawn: Callable[..., ImageArray]) -> None:
    shown = drawn(*LEFT)
    left = prompt("a disc on the left of a square")
    assert Spatial(SceneDetector()).score([shown], left) == [0]
    assert Spatial(SceneDetector(), aliases={"disc": ["circle"]}).score([shown], left)[0] > 0.9
    assert Spatial(SceneDetector(), 1.0, {"disc": ["circle"]}).score([shown], left) == [0]
    with pytest.raises(ConfigError, match="threshold 50"):
        Spatial(SceneDetector(), 50)


def test_a_prompt_without_relation_scores_nothing(drawn: Callable[..., ImageArray]) -> None:
    assert Spatial(SceneDetector()).score([drawn(*LEFT)] * 2, prompt("a circle")) == [0, 0]
    with pytest.raises(UserError, match="no relation in its metadata"):
        Spatial(SceneDetector()).score([drawn()], Prompt("x", "a circle near a square"))


def test_protocol_is_json() -> None:
    stored = json.loads(json.dumps(Spatial(SceneDetector()).protocol))
    assert (stored["frame"], stored["iou_threshold"], stored["distance_threshold"]) == (480, 0.1, 150)
    assert stored["aliases"]["boy"] == ["person"]
