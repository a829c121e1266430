"""Tests for the spatial score: hand-computed and published values, parsed prompts, and rendered scenes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.contract import ImageArray, Prompt
from evaluation.metrics.compbench.spatial import Spatial, check_golden, parse_relation, position_score, spatial_score
from evaluation.scenes.judges.detector import SceneDetector
from pocketdit.errors import ConfigError, UserError

# Computed by hand. The boxes are squares with a side of 100, given by their top left corners.
CASES: list[tuple[str, tuple[float, float], tuple[float, float], float]] = [
    ("on the left of", (0, 0), (200, 0), 1.0),
    ("on the left of", (200, 0), (0, 0), 0.0),
    ("on the right of", (200, 0), (0, 0), 1.0),
    ("on the top of", (0, 0), (0, 200), 1.0),
    ("on the bottom of", (0, 200), (0, 0), 1.0),
    ("on top of", (0, 0), (0, 200), 0.0),
    ("on the left of", (0, 0), (200, 200), 0.0),  # the offset is the same along both axes
    ("on the left of", (0, 0), (50, 0), 0.1 / (50 / 150)),
    ("on the top of", (0, 0), (0, 90), 1.0),  # the IoU is 10 / 190, which is below 0.1
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


def test_hand_computed_cases_agree() -> None:
    outcomes = dict(check_golden(golden(CASES)))
    assert len(outcomes) == len(CASES)
    assert {name: difference for name, difference in outcomes.items() if difference} == {}


def test_differing_case_is_reported() -> None:
    wrong = [(*CASES[0][:3], 0.25), CASES[1]]
    assert list(check_golden(golden(wrong))) == [
        ("0: on the left of", "1.0, published 0.25"),
        ("1: on the left of", None),
    ]


def test_published_function_agrees(published: Path) -> None:
    data = json.loads((published / "golden" / "t2i_2d_position.json").read_text())
    outcomes = list(check_golden(data))
    assert len(outcomes) == 134
    assert [outcome for outcome in outcomes if outcome[1]] == []


@pytest.mark.parametrize(
    ("relation", "inverse"),
    [("on the left of", "on the right of"), ("on the top of", "on the bottom of"), ("near", "near")],
)
def test_inverse_relation_scores_the_same(relation: str, inverse: str) -> None:
    rng = np.random.default_rng(0)
    scores = []
    for corners in rng.uniform(0, 380, (300, 4)):
        a, b = ((x, y, x + 90, y + 60) for x, y in (corners[:2], corners[2:]))
        scores.append(position_score(relation, a, b))
        assert scores[-1] == pytest.approx(position_score(inverse, b, a))
    assert 0 < min(scores[i] for i in np.flatnonzero(scores)) < max(scores) == 1


def test_boxes_without_area_can_be_scored() -> None:
    assert position_score("on the left of", (5, 5, 5, 5), (5, 5, 5, 5)) == 0
    assert position_score("on the left of", (5, 5, 5, 5), (9, 5, 9, 5)) == 1


@pytest.mark.parametrize(
    ("parts", "score"),
    [((0.9, 0.7, 1.0), 0.9), ((0.9, 0.9, 0.0), 0.0), ((1.0, 1.0, 0.0), 0.5), ((0.5, 0.5, 0.4), 0.0)],
)
def test_score_is_a_weighted_sum(parts: tuple[float, float, float], score: float) -> None:
    assert spatial_score(*parts) == pytest.approx(score)


@pytest.mark.parametrize(
    ("text", "first", "relation", "second"),
    [
        ("a giraffe next to a lamp", "giraffe", "next to", "lamp"),
        ("The round clock was on the right of the picture frame.", "round clock", "on the right of", "picture frame"),
        ("The cone was suspended in mid-air near the pyramid and the cube.", "cone", "near", "pyramid"),
        ("The cat snuggled up next to the warm blanket.", "cat", "next to", "warm blanket"),
    ],
)
def test_relation_is_parsed(text: str, first: str, relation: str, second: str) -> None:
    assert parse_relation(text) == {"first": first, "relation": relation, "second": second}


def test_text_without_relation_yields_none() -> None:
    assert parse_relation("The nearby sun sank below the horizon.") is None


def prompt(text: str) -> Prompt:
    return Prompt("spatial-0000", text, {"category": "spatial", "relation": parse_relation(text)})


LEFT = (("circle", "red", 30, 64), ("square", "blue", 98, 64))


@pytest.mark.parametrize(
    ("text", "correct"),
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
def test_detected_objects_are_scored(render_objects: Callable[..., ImageArray], text: str, correct: bool) -> None:
    """The image shows a red circle to the left of a blue square."""
    image = render_objects(*LEFT)
    confidence = [detection.score for detection in SceneDetector().detect(image)]
    (score,) = Spatial(SceneDetector()).score([image], prompt(text))
    expected = 0.25 * sum(confidence) + 0.5
    assert score == pytest.approx(expected if correct else 0)
    assert 0.9 < expected < 1


def test_two_objects_never_share_a_detection(render_objects: Callable[..., ImageArray]) -> None:
    pair = Prompt("x", "", {"relation": {"first": "circle", "relation": "near", "second": "circle"}})
    one, two = render_objects(LEFT[0]), render_objects(LEFT[0], ("circle", "blue", 98, 64))
    alone, both = Spatial(SceneDetector()).score([one, two], pair)
    assert alone == 0 < both


def test_boxes_are_scaled_to_the_480_pixel_frame(render_objects: Callable[..., ImageArray]) -> None:
    """The image size determines whether objects that are 44 pixels apart along both axes are near each other.

    In the frame, they are 165 pixels apart if the image's side is 128 pixels, and 132 pixels apart if it is 160 pixels.
    """
    near = prompt("a circle near a square")
    objects = (("circle", "red", 30, 30), ("square", "blue", 74, 74))
    small, large = render_objects(*objects), render_objects(*objects, width=160, height=160)
    detector = SceneDetector()
    boxes = [{item.label: np.array(item.box) for item in detector.detect(image)} for image in (small, large)]
    offsets = [(b["square"] - b["circle"]).reshape(2, 2).mean(0) * s for b, s in zip(boxes, (3.75, 3), strict=True)]
    assert min(offsets[0]) > 150 > max(offsets[1])
    detection_part = [0.25 * sum(item.score for item in detector.detect(image)) for image in (small, large)]
    assert Spatial(detector).score([small, large], near) == [
        pytest.approx(detection_part[0] + 0.5 * 150 / max(offsets[0])),
        pytest.approx(detection_part[1] + 0.5),
    ]


def test_threshold_and_aliases_affect_the_score(render_objects: Callable[..., ImageArray]) -> None:
    image = render_objects(*LEFT)
    left = prompt("a disk on the left of a square")
    assert Spatial(SceneDetector()).score([image], left) == [0]
    assert Spatial(SceneDetector(), aliases={"disk": ["circle"]}).score([image], left)[0] > 0.9
    assert Spatial(SceneDetector(), 1.0, {"disk": ["circle"]}).score([image], left) == [0]
    with pytest.raises(ConfigError, match="threshold must be a detection score between 0 and 1, not 50"):
        Spatial(SceneDetector(), 50)


def test_prompt_without_relation_scores_zero(render_objects: Callable[..., ImageArray]) -> None:
    assert Spatial(SceneDetector()).score([render_objects(*LEFT)] * 2, prompt("a circle")) == [0, 0]
    with pytest.raises(UserError, match=r"the metadata of prompt \S+ has no relation"):
        Spatial(SceneDetector()).score([render_objects()], Prompt("x", "a circle near a square"))


def test_protocol_is_serializable() -> None:
    stored = json.loads(json.dumps(Spatial(SceneDetector()).protocol))
    assert (stored["frame"], stored["iou_threshold"], stored["distance_threshold"]) == (480, 0.1, 150)
    assert stored["aliases"]["boy"] == ["person"]
