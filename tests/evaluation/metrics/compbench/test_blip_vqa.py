from collections.abc import Callable

import pytest

from evaluation.contract import ImageArray, Prompt
from evaluation.judges.rule_chunks import RuleChunks
from evaluation.metrics.compbench.blip_vqa import BlipVqa, attribute_score, questions
from evaluation.scenes.judges.answerer import SceneAnswerer
from pocketdit.errors import ConfigError, UserError


def scorer(most: int = 8) -> BlipVqa:
    return BlipVqa(SceneAnswerer(), RuleChunks(), most)


def test_words_left_over_from_relations_are_not_asked_for() -> None:
    chunks = RuleChunks().chunks("a cup on the left of a plate on top of the table on the side of it")
    assert chunks == ["a cup", "the left", "a plate", "top", "the table", "the side"]
    assert questions(chunks, 8) == ["a cup?", "a plate?", "the table?"]
    assert questions(chunks, 2) == ["a cup?", "a plate?"]


@pytest.mark.parametrize(
    ("probabilities", "score"),
    [([0.5, 0.25], 0.125), ([0.99996, 0.5], 0.5), ([0.00004, 1.0], 0.0), ([0.33335001], 0.3334)],
)
def test_each_probability_is_rounded_before_the_product(probabilities: list[float], score: float) -> None:
    assert attribute_score(probabilities) == score


def test_a_bound_attribute_scores_and_a_swapped_one_does_not(drawn: Callable[..., ImageArray]) -> None:
    shown = drawn(("circle", "red", 30, 64), ("square", "blue", 98, 64))
    bound, swapped = (
        scorer().score([shown, drawn()], Prompt("x", text))
        for text in ("a red circle and a blue square", "a blue circle and a red square")
    )
    each = SceneAnswerer().yes_probabilities(shown, ["a red circle?", "a blue square?"])
    assert bound == [round(each[0], 4) * round(each[1], 4), 0]
    assert bound[0] > 0.8 > 0.1 > swapped[0]


def test_chunks_past_the_limit_are_not_asked_for(drawn: Callable[..., ImageArray]) -> None:
    shown, text = drawn(("circle", "red", 30, 64)), Prompt("x", "a red circle and a blue square")
    assert scorer(2).score([shown], text)[0] < 0.1 < 0.8 < scorer(1).score([shown], text)[0]


def test_a_prompt_without_chunks_is_no_full_score(drawn: Callable[..., ImageArray]) -> None:
    with pytest.raises(UserError, match="color-0000: rule-chunks finds no noun chunk in 'it is'"):
        scorer().score([drawn()], Prompt("color-0000", "it is"))
    with pytest.raises(ConfigError, match="max_chunks 0"):
        scorer(0)


def test_protocol_names_the_chunks_that_were_used() -> None:
    assert scorer().protocol["noun_chunks"] == "rule-chunks"
    assert [backend.name for backend in scorer().backends] == ["scene-rules", "rule-chunks"]
