"""Tests for noun chunks from spaCy, and for the error messages if spaCy or its model is not installed."""

import sys
from pathlib import Path

import pytest
import spacy

from evaluation.contract import Prompt
from evaluation.judges.spacy_chunks import SpacyChunks
from evaluation.metrics.compbench.blip_vqa import BlipVqa, ask_for_chunks
from evaluation.scenes.judges.answerer import SceneAnswerer
from pocketdit.errors import UserError


@pytest.fixture(scope="module")
def chunker() -> SpacyChunks:
    return SpacyChunks()


def test_missing_spacy_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(UserError, match=r"pip install 'pocketdit\[chunks\]' .*air-gapped.*RuleChunks"):
        SpacyChunks()


def test_missing_model_is_reported() -> None:
    with pytest.raises(UserError, match=r"spaCy model no_such_model: not found; run pip install .*RuleChunks"):
        SpacyChunks("no_such_model")


@pytest.mark.parametrize(
    ("text", "chunks"),
    [
        ("a green bench and a blue bowl", ["a green bench", "a blue bowl"]),
        ("The black camera was next to the white tripod.", ["The black camera", "the white tripod"]),
        ("a cat on the left of a dog", ["a cat", "the left", "a dog"]),
    ],
)
def test_chunks_are_those_of_the_published_model(chunker: SpacyChunks, text: str, chunks: list[str]) -> None:
    assert chunker.chunks(text) == chunks
    assert chunker.backend.name == "spacy-en_core_web_sm"
    assert chunker.backend.version.startswith(f"spacy {spacy.__version__}, en_core_web_sm")
    assert chunker.backend.published_for == ("t2i-compbench",)


def test_other_models_are_named(chunker: SpacyChunks, tmp_path: Path) -> None:
    spacy.blank("de").to_disk(tmp_path / "model")
    backend = SpacyChunks(str(tmp_path / "model")).backend
    assert (backend.name, backend.published_for) == ("spacy-de_pipeline", ())


def test_every_published_attribute_prompt_has_questions(chunker: SpacyChunks, published: Path) -> None:
    """Every prompt of the three attribute categories contains at least one object to ask about."""
    for category in ("color", "shape", "texture"):
        for text in (published / "t2i_compbench" / f"{category}_val.txt").read_text().splitlines():
            assert ask_for_chunks(chunker.chunks(text), 8), text
    scorer = BlipVqa(SceneAnswerer(), chunker)
    assert scorer.limits([Prompt("a", "a red circle")]).best == (1.0,)
