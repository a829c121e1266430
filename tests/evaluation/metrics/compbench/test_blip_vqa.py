"""Tests the attribute score on rendered scenes with a rule-based judge."""

from collections.abc import Callable

import pytest

from evaluation.contract import ImageArray, Prompt
from evaluation.judges.rule_chunks import RuleChunks
from evaluation.metrics.compbench.blip_vqa import BlipVqa, ask_for_chunks, attribute_score
from evaluation.scenes.judges.answerer import SceneAnswerer
from pocketdit.errors import ConfigError, UserError


def scorer(max_chunks: int = 8) -> BlipVqa:
    return BlipVqa(SceneAnswerer(), RuleChunks(), max_chunks)


def test_words_of_relations_do_not_become_questions() -> None:
    chunks = RuleChunks().chunks("a cup on the left of a plate on top of the table on the side of it")
    assert chunks == ["a cup", "the left", "a plate", "top", "the table", "the side"]
    assert ask_for_chunks(chunks, 8) == ["a cup?", "a plate?", "the table?"]
    assert ask_for_chunks(chunks, 2) == ["a cup?", "a plate?"]


@pytest.mark.parametrize(
    ("probabilities", "score"),
    [([0.5, 0.25], 0.125), ([0.99996, 0.5], 0.5), ([0.00004, 1.0], 0.0), ([0.33335001], 0.3334)],
)
def test_probabilities_are_rounded_before_multiplying(probabilities: list[float], score: float) -> None:
    assert attribute_score(probabilities) == score


def test_swapped_attributes_score_low(render_objects: Callable[..., ImageArray]) -> None:
    image = render_objects(("circle", "red", 30, 64), ("square", "blue", 98, 64))
    correct, swapped = (
        scorer().score([image, render_objects()], Prompt("x", text))
        for text in ("a red circle and a blue square", "a blue circle and a red square")
    )
    each = SceneAnswerer().yes_probabilities(image, ["a red circle?", "a blue square?"])
    assert correct == [round(each[0], 4) * round(each[1], 4), 0]
    assert correct[0] > 0.8 > 0.1 > swapped[0]


def test_chunks_beyond_the_limit_are_ignored(render_objects: Callable[..., ImageArray]) -> None:
    image, prompt = render_objects(("circle", "red", 30, 64)), Prompt("x", "a red circle and a blue square")
    assert scorer(2).score([image], prompt)[0] < 0.1 < 0.8 < scorer(1).score([image], prompt)[0]


def test_prompt_without_chunks_is_an_error(render_objects: Callable[..., ImageArray]) -> None:
    with pytest.raises(UserError, match=r"rule-chunks finds no noun chunks in prompt color-0000 \('it is'\)"):
        scorer().score([render_objects()], Prompt("color-0000", "it is"))
    with pytest.raises(ConfigError, match="max_chunks must be at least 1, not 0"):
        scorer(0)


def test_protocol_names_the_noun_chunker() -> None:
    assert scorer().protocol["noun_chunks"] == "rule-chunks"
    assert [backend.name for backend in scorer().backends] == ["scene-rules", "rule-chunks"]
