import importlib.util
import re
from pathlib import Path

import pytest

from evaluation.judges.rule_chunks import RuleChunks, bare, rule_chunks
from evaluation.judges.spacy_chunks import SpacyChunks
from pocketdit.errors import UserError

HAS_SPACY = importlib.util.find_spec("spacy") is not None
HAS_MODEL = importlib.util.find_spec("en_core_web_sm") is not None


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
def test_chunks_by_rules(text: str, chunks: list[str]) -> None:
    assert rule_chunks(text) == chunks == RuleChunks().chunks(text)


def test_rules_split_every_prompt_of_the_common_template(published: Path) -> None:
    """ "a X and a Y" has the chunks "a X" and "a Y", whatever the words."""
    seen = 0
    for category in ("color", "shape", "texture"):
        for line in (published / "t2i_compbench" / f"{category}_val.txt").read_text().splitlines():
            template = re.fullmatch(r"(an? (?:\w+ ){1,3}\w+) and (an? (?:\w+ ){1,3}\w+)", line.strip())
            if template and not re.search(r"\b(of|with|and|on|in)\b", template[1] + " " + template[2]):
                assert rule_chunks(line) == [template[1], template[2]]
                seen += 1
    assert seen > 600


def test_the_stand_in_says_so() -> None:
    assert RuleChunks.backend.name == "rule-chunks"
    assert RuleChunks.backend.published_for == ()


@pytest.mark.parametrize(("chunk", "words"), [("The red hat", "red hat"), ("all", "all"), ("the two", "")])
def test_bare(chunk: str, words: str) -> None:
    assert bare(chunk) == words


@pytest.mark.skipif(HAS_SPACY, reason="spaCy is installed")
def test_without_spacy() -> None:
    with pytest.raises(UserError, match=r"pip install spacy .*air-gapped.*RuleChunks"):
        SpacyChunks()


@pytest.mark.skipif(not HAS_SPACY, reason="spaCy is not installed")
def test_without_the_model() -> None:
    with pytest.raises(UserError, match=r"no model no_such_model.*RuleChunks"):
        SpacyChunks("no_such_model")


@pytest.mark.skipif(not HAS_MODEL, reason="en_core_web_sm is not installed")
def test_chunks_by_spacy() -> None:
    chunks = SpacyChunks()
    assert chunks.chunks("a green bench and a blue bowl") == ["a green bench", "a blue bowl"]
    assert chunks.backend.name == "spacy-en_core_web_sm"
    assert chunks.backend.published_for == ("t2i-compbench",)
