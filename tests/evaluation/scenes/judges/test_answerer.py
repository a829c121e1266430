"""Tests for parsing and answering questions with obvious answers about rendered scenes."""

from itertools import pairwise

import numpy as np
import pytest

from datamodules.scenes.render import render_scene
from datamodules.scenes.scene import Object, Scene
from evaluation.scenes.judges.answerer import SceneAnswerer, at_least_one, exactly
from evaluation.scenes.judges.questions import Attribute, Background, Existence, ObjectPhrase, Relation, parse_question
from pocketdit.errors import UserError

ANSWERER = SceneAnswerer()

LEFT, RIGHT = Object("circle", "red", "large", 33, 64, 22), Object("square", "blue", "small", 96, 65, 15)
PAIR = np.asarray(render_scene(Scene(128, 128, "grey", (LEFT, RIGHT))))
STARS = np.asarray(
    render_scene(Scene(160, 96, "white", tuple(Object("star", "green", "small", x, 48, 12.5) for x in (26, 80, 134))))
)

RED_CIRCLE = ObjectPhrase("circle", "red", None)
BLUE_SQUARE = ObjectPhrase("square", "blue", None)


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("Is there a red circle?", Existence(RED_CIRCLE, None)),
        ("a red circle?", Existence(RED_CIRCLE, None)),
        ("Red  circle", Existence(RED_CIRCLE, None)),
        ("Is there a red circle in the top left?", Existence(RED_CIRCLE, "in the top left")),
        ("are there three small stars?", Existence(ObjectPhrase("star", None, "small", 3), None)),
        ("Is there one shape?", Existence(ObjectPhrase(None, None, None, 1), None)),
        ("two red crosses?", Existence(ObjectPhrase("cross", "red", None, 2), None)),
        (
            "Is the circle red?",
            Attribute(ObjectPhrase("circle", None, None), ObjectPhrase(None, "red", None), None, False),
        ),
        (
            "Are the crosses large?",
            Attribute(ObjectPhrase("cross", None, None), ObjectPhrase(None, None, "large"), None, True),
        ),
        (
            "Is the red shape a circle?",
            Attribute(ObjectPhrase(None, "red", None), ObjectPhrase("circle", None, None), None, False),
        ),
        (
            "Is the star on the left?",
            Attribute(ObjectPhrase("star", None, None), ObjectPhrase(None, None, None), "on the left", False),
        ),
        ("Is the blue square left of the red circle?", Relation(BLUE_SQUARE, "left of", RED_CIRCLE)),
        ("Is the blue square to the left of a red circle?", Relation(BLUE_SQUARE, "left of", RED_CIRCLE)),
        ("a red circle above a blue square?", Relation(RED_CIRCLE, "above", BLUE_SQUARE)),
        ("Is the background gray?", Background("grey")),
        ("a plain white background?", Background("white")),
    ],
)
def test_question_is_parsed(text: str, meaning: object) -> None:
    assert parse_question(text) == meaning


@pytest.mark.parametrize(
    "text",
    [
        "How many circles are there?",
        "Is there a dog?",
        "Is the circle happy?",
        "a red circle left?",
        "",
        "Is the circle?",
    ],
)
def test_question_that_cannot_be_parsed_is_named_in_the_error(text: str) -> None:
    with pytest.raises(UserError, match=f"question '{text}'".replace("?", r"\?")):
        ANSWERER.answers(PAIR, ["Is there a red circle?", text])


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Is there a red circle?", "yes"),
        ("Is there a blue circle?", "no"),
        ("Is there a circle on the left?", "yes"),
        ("Is there a circle on the right?", "no"),
        ("Are there two shapes?", "yes"),
        ("Are there three shapes?", "no"),
        ("Is there one shape?", "no"),
        ("Is the circle large?", "yes"),
        ("Is the circle small?", "no"),
        ("Is the square small?", "yes"),
        ("Is the red shape a circle?", "yes"),
        ("Is the red shape a square?", "no"),
        ("Is the star red?", "no"),
        ("Is the red circle left of the blue square?", "yes"),
        ("Is the red circle right of the blue square?", "no"),
        ("Is the red circle above the blue square?", "no"),
        ("Is the circle left of the circle?", "no"),
        ("Is the background grey?", "yes"),
        ("a white background?", "no"),
        ("Is the background blue?", "no"),
    ],
)
def test_answers_about_a_pair(question: str, answer: str) -> None:
    assert ANSWERER.answers(PAIR, [question]) == [answer]


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Are there three stars?", "yes"),
        ("Are there two stars?", "no"),
        ("Are there four stars?", "no"),
        ("Are the stars green?", "yes"),
        ("Are the stars small?", "yes"),
        ("Are there circles?", "no"),
        ("three small green stars?", "yes"),
    ],
)
def test_answers_about_a_group(question: str, answer: str) -> None:
    assert ANSWERER.answers(STARS, [question]) == [answer]


def test_plural_question_asks_about_every_object() -> None:
    stars = tuple(
        Object("star", color, "small", x, 48, 12.5) for x, color in ((26, "green"), (80, "red"), (134, "green"))
    )
    pixels = np.asarray(render_scene(Scene(160, 96, "white", stars)))
    assert ANSWERER.answers(pixels, ["Are the stars green?", "Is the star green?"]) == ["no", "yes"]


def test_probability_falls_as_a_shape_deforms() -> None:
    """A square becomes a bar, step by step."""
    values = []
    for height in (44, 36, 32, 28, 24, 16):
        pixels = np.full((128, 128, 3), 235, np.uint8)
        pixels[64 - height // 2 : 64 + height // 2, 42:86] = (222, 24, 36)
        values += ANSWERER.yes_probabilities(pixels, ["a red square?"])
    assert values == sorted(values, reverse=True)
    assert values[0] > 0.95
    assert values[-1] < 0.01
    assert any(0.02 < value < 0.98 for value in values)


def test_probability_falls_as_a_color_fades_into_another() -> None:
    red, orange = np.array([222, 24, 36]), np.array([255, 140, 0])
    values = []
    for share in np.linspace(0, 1, 9):
        pixels = np.full((96, 96, 3), 235, np.uint8)
        pixels[30:70, 30:70] = (1 - share) * red + share * orange
        values += ANSWERER.yes_probabilities(pixels, ["is the square red?"])
    assert all(a >= b - 0.02 for a, b in pairwise(values))
    assert values[0] > 0.95
    assert values[-1] < 0.01
    assert any(0.1 < value < 0.9 for value in values)


def test_distribution_of_the_number_of_independent_events() -> None:
    """The reference sums over all combinations of events."""
    p = [0.1, 0.5, 0.8, 1.0]
    expected = [0.0] * 5
    for outcome in range(16):
        bits = [outcome >> i & 1 for i in range(4)]
        expected[sum(bits)] += float(np.prod([q if bit else 1 - q for q, bit in zip(p, bits, strict=True)]))
    assert [exactly(n, p) for n in range(5)] == pytest.approx(expected)
    assert at_least_one(p[:3]) == pytest.approx(1 - exactly(0, p[:3]))
    assert exactly(0, []) == 1
    assert exactly(2, []) == 0 == at_least_one([])
