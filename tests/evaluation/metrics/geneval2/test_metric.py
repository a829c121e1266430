"""Tests GenEval 2 on single-color images, with a judge whose answers have known probabilities."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from evaluation.contract import Backend, ImageArray, Prompt, PromptSet
from evaluation.metrics.geneval2.metric import GenEval2
from pocketdit.errors import ConfigError, UserError
from tests.evaluation.conftest import Save

PROMPTS = PromptSet(
    "geneval2",
    (
        Prompt("00000", "two red kites", {
            "atom_count": 3,
            "vqa_list": [["How many kites?", "two"], ["Are the kites red?", "Yes"], ["Are there kites?", "Yes"]],
            "skills": ["count", "attribute", "object"],
        }),
        Prompt("00001", "a lamp", {
            "atom_count": 1,
            "vqa_list": [["How many lamps?", "one"], ["Are there lamps?", "Yes"]],
            "skills": ["count", "object"],
        }),
    ),
)  # fmt: skip


class BrightnessJudge:
    """Answers "yes" with a probability equal to the image's brightness, and "two" with probability 1/4."""

    def __init__(self, published_for: tuple[str, ...] = ("geneval2",)) -> None:
        self.backend = Backend("brightness", "1", published_for)
        self.asked: list[str] = []

    def answer_probabilities(
        self, image: ImageArray, questions: Sequence[str], spellings: Sequence[Sequence[str]]
    ) -> list[float]:
        self.asked += questions
        return [self._probability(image, forms) for forms in spellings]

    def _probability(self, image: ImageArray, forms: Sequence[str]) -> float:
        if "Yes" in forms:
            return float(image[0, 0, 0]) / 255
        return 0.25 if "two" in forms and "2" in forms else 0.0


def gray(value: int) -> ImageArray:
    return np.full((4, 4, 3), value, np.uint8)


def test_scores_equal_hand_computed_values(save: Save) -> None:
    judge = BrightnessJudge()
    images = save(PROMPTS, {"00001": [gray(255)], "00000": [gray(51)]})
    result = GenEval2("p", judge).score(images)
    assert result.metric == "geneval2"
    assert judge.asked[:2] == ["How many kites? Answer in one word.", "Are the kites red? Answer in one word."]
    assert {name: score.value for name, score in result.scores.items()} == pytest.approx(
        {
            # The right answers have probabilities of 0.25, 0.2 and 0.2 for the first image, and 0 and 1 for the second.
            "soft_tifa_gm": 100 * 0.01 ** (1 / 3) / 2,
            "soft_tifa_am": 100 * (0.65 / 3 + 0.5) / 2,
            "skills_am/attribute": 20,
            "skills_am/count": 12.5,
            "skills_am/object": 60,
            "atomicity_gm/1": 0,
            "atomicity_gm/3": 100 * 0.01 ** (1 / 3),
        }
    )
    protocol = json.loads(json.dumps(result.protocol))
    assert (protocol["prompt_count"], protocol["judge"]["name"]) == (2, "brightness")


def test_another_judge_is_named(save: Save) -> None:
    images = save(PROMPTS, {"00000": [gray(9)], "00001": [gray(9)]})
    assert GenEval2("p", BrightnessJudge(())).score(images).metric == "geneval2 (brightness)"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vqa_list": '[["Is it?", "yes"]]'}, "no valid questions"),  # values from a table are strings
        ({"vqa_list": []}, "no valid questions"),
        ({"vqa_list": [["Is it?"]]}, "no valid questions"),
        ({"skills": ["object", "count"]}, "no valid questions"),
        ({"atom_count": "3"}, "no valid questions"),
        ({"vqa_list": [["How many cats?", "12"]]}, "the answer '12' is not one of one, two"),
    ],
)
def test_malformed_questions_are_refused_before_sampling(changes: dict[str, Any], message: str) -> None:
    metadata = {"vqa_list": [["Is it?", "yes"]], "skills": ["object"], "atom_count": 3}
    metric = GenEval2("p", BrightnessJudge())
    metric.check_prompts(PromptSet("mine", (Prompt("x", "x", metadata),)))
    with pytest.raises(UserError, match=message):
        metric.check_prompts(PromptSet("mine", (Prompt("x", "x", metadata | changes),)))


def test_incomplete_image_sets_are_errors(save: Save) -> None:
    metric = GenEval2("p", BrightnessJudge())
    with pytest.raises(UserError, match=r"prompt 00001 \('a lamp'\) has no images"):
        metric.score(save(PROMPTS, {"00000": [gray(0)]}))
    with pytest.raises(ConfigError, match="prompt x has no valid questions: p is not a GenEval2Prompts set"):
        metric.check_prompts(PromptSet("other", (Prompt("x", "x"),)))
    with pytest.raises(UserError, match="prompt set p is empty"):
        metric.score(save(PromptSet("geneval2", ()), {}))
