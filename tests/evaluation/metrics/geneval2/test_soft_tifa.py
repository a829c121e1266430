"""Tests Soft-TIFA with probabilities computed by hand."""

import pytest

from evaluation.metrics.geneval2.soft_tifa import ScoredImage, geometric_mean, soft_tifa, spellings
from pocketdit.errors import UserError

KITES = ScoredImage("a", 3, ("count", "attribute", "object"), (0.25, 0.5, 1.0))
LAMPS = ScoredImage("b", 3, ("count", "object"), (0.04, 0.25))
CROWD = ScoredImage("c", 5, ("object", "object"), (0.81, 1.0))


def test_scores_equal_hand_computed_values() -> None:
    scores = soft_tifa([KITES, LAMPS, CROWD])
    assert {name: score.value for name, score in scores.items()} == pytest.approx(
        {
            # The geometric means are the cube root of 1/8 and the square roots of 0.01 and 0.81.
            "soft_tifa_gm": (50 + 10 + 90) / 3,
            "soft_tifa_am": 100 * (1.75 / 3 + 0.145 + 0.905) / 3,
            "skills_am/attribute": 50,
            "skills_am/count": (25 + 4) / 2,
            "skills_am/object": (100 + 25 + 81 + 100) / 4,
            "atomicity_gm/3": 30,
            "atomicity_gm/5": 90,
        }
    )
    assert scores["soft_tifa_gm"].by_prompt == pytest.approx({"a": 50, "b": 10, "c": 90})
    assert scores["skills_am/object"].by_prompt == pytest.approx({"a": 100, "b": 25, "c": 90.5})
    assert [scores[name].samples for name in ("soft_tifa_am", "skills_am/count", "atomicity_gm/3")] == [3, 2, 2]


def test_images_of_a_prompt_are_averaged_and_prompts_have_equal_weights() -> None:
    other = ScoredImage("a", 3, KITES.skills, (0.0, 0.5, 1.0))
    scores = soft_tifa([KITES, other, CROWD])
    assert geometric_mean(other) == 0
    assert scores["soft_tifa_gm"].by_prompt == pytest.approx({"a": 25, "c": 90})
    assert scores["soft_tifa_gm"].value == pytest.approx((25 + 90) / 2)
    assert scores["skills_am/object"].value == pytest.approx((100 + 100 + 81 + 100) / 4)
    assert scores["soft_tifa_am"].samples == 3


@pytest.mark.parametrize(
    ("question", "answer", "expected"),
    [
        ("How many kites are there?", "two", {"two", "Two", " two", " Two", "2", " 2"}),
        ("How many lamps are there?", "one", {"one", "One", " one", " One", "1", " 1"}),
        ("Are the kites red?", "Yes", {"Yes", "yes", " Yes", " yes"}),
    ],
)
def test_spellings(question: str, answer: str, expected: set[str]) -> None:
    assert set(spellings(question, answer)) == expected


def test_an_unknown_number_is_an_error() -> None:
    with pytest.raises(UserError, match="'How many kites\\?': the answer 'dozens' is not one of one, two, "):
        spellings("How many kites?", "dozens")
