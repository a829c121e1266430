"""Tests for VQAScore with judges whose answers are known."""

from collections.abc import Sequence

import numpy as np
import pytest

from evaluation.contract import Backend, ImageArray, ImageSet, Prompt, PromptSet
from evaluation.metrics.vqa_score import VqaScore
from pocketdit.errors import ConfigError, UserError
from tests.evaluation.conftest import Save


class RelativeJudge:
    """Reports the brightness as p(yes) / (p(yes) + p(no))."""

    backend = Backend("relative", "1")

    def __init__(self) -> None:
        self.asked: list[str] = []

    def answers(self, image: ImageArray, questions: Sequence[str]) -> list[str]:
        raise NotImplementedError

    def yes_probabilities(self, image: ImageArray, questions: Sequence[str]) -> list[float]:
        self.asked += questions
        return [float(image[0, 0, 0]) / 255] * len(questions)


class AbsoluteJudge:
    """Reports half of the brightness as the probability of the answer "yes"."""

    backend = Backend("absolute", "1")

    def answer_probabilities(
        self, image: ImageArray, questions: Sequence[str], spellings: Sequence[Sequence[str]]
    ) -> list[float]:
        assert set(spellings[0]) == {"Yes", "yes", " Yes", " yes"}
        return [float(image[0, 0, 0]) / 510] * len(questions)


@pytest.fixture
def images(save: Save) -> ImageSet:
    prompts = PromptSet("p", (Prompt("a", "a {red} cat"), Prompt("b", "a dog")), 2)
    grays = {"a": (51, 153), "b": (255, 255)}
    return save(prompts, {name: [np.full((4, 4, 3), v, np.uint8) for v in values] for name, values in grays.items()})


def test_scores_equal_hand_computed_values(images: ImageSet) -> None:
    judge = RelativeJudge()
    result = VqaScore("p", judge).score(images)
    assert result.metric == "vqascore (relative)"
    assert result.scores["overall"].by_prompt == pytest.approx({"a": 0.4, "b": 1.0})
    assert result.scores["overall"].value == pytest.approx(0.7)
    assert result.scores["overall"].samples == 4
    assert judge.asked[0] == 'Does this image show "a {red} cat"? Answer the question with Yes or No.'
    assert result.protocol["value"] == "p(yes) / (p(yes) + p(no))"


def test_a_judge_with_absolute_probabilities_reports_the_probability_of_yes(images: ImageSet) -> None:
    result = VqaScore("p", AbsoluteJudge()).score(images)
    assert result.scores["overall"].value == pytest.approx(0.35)
    assert result.protocol["value"] == "p(yes)"


def test_question_can_be_changed(images: ImageSet) -> None:
    judge = RelativeJudge()
    VqaScore("p", judge, "is this {prompt}?").score(images)
    assert judge.asked[-1] == "is this a dog?"
    with pytest.raises(ConfigError, match=r"question: 'is this it\?' does not contain {prompt}"):
        VqaScore("p", judge, "is this it?")
    with pytest.raises(UserError, match="prompts without images: 1 of 2"):
        VqaScore("p", judge).score(ImageSet(images.prompts, {"a": images.images["a"]}, {}))
