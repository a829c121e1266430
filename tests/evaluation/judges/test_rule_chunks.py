"""Tests for the rules that split a prompt into noun chunks with word lists."""

import re
from pathlib import Path

import pytest

from evaluation.judges.rule_chunks import RuleChunks, rule_chunks, strip_determiners


@pytest.mark.parametrize(
    ("text", "chunks"),
    [
        ("a green bench and a blue bowl", ["a green bench", "a blue bowl"]),
        ("rubber sole shoes and fluffy clouds", ["rubber sole shoes", "fluffy clouds"]),
        ("The red hat was on top of the brown coat rack.", ["The red hat", "top", "the brown coat rack"]),
        ("A black and white cat sits in a white sink.", ["A black and white cat", "a white sink"]),
        ("A long, narrow yellow kitchen", ["A long, narrow yellow kitchen"]),
        ("a red hat, a blue cup", ["a red hat", "a blue cup"]),
        ("a triangular slice of pizza", ["a triangular slice", "pizza"]),
        ("a wooden grater slice the fluffy cheddar", ["a wooden grater", "the fluffy cheddar"]),
        ("The old oak tree snaked through the rich soil.", ["The old oak tree", "the rich soil"]),
        ("two sheep and a bed", ["two sheep", "a bed"]),
        ("the and of it", []),
        ("", []),
    ],
)
def test_chunks(text: str, chunks: list[str]) -> None:
    assert rule_chunks(text) == chunks == RuleChunks().chunks(text)


def test_prompts_of_the_common_template_are_split(published: Path) -> None:
    """A prompt of the form "a X and a Y" has the chunks "a X" and "a Y"."""
    count = 0
    for category in ("color", "shape", "texture"):
        for line in (published / "t2i_compbench" / f"{category}_val.txt").read_text().splitlines():
            template = re.fullmatch(r"(an? (?:\w+ ){1,3}\w+) and (an? (?:\w+ ){1,3}\w+)", line.strip())
            if template and not re.search(r"\b(of|with|and|on|in)\b", template[1] + " " + template[2]):
                assert rule_chunks(line) == [template[1], template[2]]
                count += 1
    assert count > 600


def test_backend_is_not_the_published_one() -> None:
    assert RuleChunks.backend.name == "rule-chunks"
    assert RuleChunks.backend.published_for == ()


@pytest.mark.parametrize(("chunk", "words"), [("The red hat", "red hat"), ("all", "all"), ("the two", "")])
def test_determiners_are_stripped(chunk: str, words: str) -> None:
    assert strip_determiners(chunk) == words
