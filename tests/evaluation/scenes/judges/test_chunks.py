"""Tests that the noun chunks of captions are valid questions."""

import pytest

from datamodules.scenes.split import generate_scenes
from evaluation.scenes.judges.chunks import SceneChunks
from evaluation.scenes.judges.questions import Background, Existence, parse_question


@pytest.mark.parametrize(
    ("text", "chunks"),
    [
        ("a red circle left of a small blue square", ["a red circle", "a small blue square"]),
        ("three small red crosses on a grey background", ["three small red crosses", "a grey background"]),
        ("an orange star in the top left", ["an orange star"]),
        ("a red circle, a blue star and a pink cross", ["a red circle", "a blue star", "a pink cross"]),
        ("no known words", []),
    ],
)
def test_chunks_of_known_captions(text: str, chunks: list[str]) -> None:
    assert SceneChunks().chunks(text) == chunks


def test_every_chunk_of_a_short_caption_is_a_valid_question() -> None:
    for sample in generate_scenes("validation", 200, seed=4):
        kinds = {item.kind for item in sample.scene.objects}
        questions = [parse_question(f"{chunk}?") for chunk in SceneChunks().chunks(sample.captions[0])]
        existence = [question for question in questions if isinstance(question, Existence)]
        assert {(question.phrase.shape, question.phrase.color) for question in existence} == kinds
        assert all(isinstance(question, (Existence, Background)) for question in questions)
