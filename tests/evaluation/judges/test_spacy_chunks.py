"""Noun chunks from spaCy if it is installed, and the error message if it is not."""

import importlib.util

import pytest

from evaluation.judges.spacy_chunks import SpacyChunks
from pocketdit.errors import UserError

HAS_SPACY = importlib.util.find_spec("spacy") is not None
HAS_MODEL = importlib.util.find_spec("en_core_web_sm") is not None


@pytest.mark.skipif(HAS_SPACY, reason="spaCy is installed")
def test_missing_spacy_is_reported() -> None:
    with pytest.raises(UserError, match=r"pip install spacy .*air-gapped.*RuleChunks"):
        SpacyChunks()


@pytest.mark.skipif(not HAS_SPACY, reason="spaCy is not installed")
def test_missing_model_is_reported() -> None:
    with pytest.raises(UserError, match=r"spaCy model no_such_model:.*RuleChunks"):
        SpacyChunks("no_such_model")


@pytest.mark.skipif(not HAS_MODEL, reason="en_core_web_sm is not installed")
def test_chunks() -> None:
    chunker = SpacyChunks()
    assert chunker.chunks("a green bench and a blue bowl") == ["a green bench", "a blue bowl"]
    assert chunker.backend.name == "spacy-en_core_web_sm"
    assert chunker.backend.published_for == ("t2i-compbench",)
