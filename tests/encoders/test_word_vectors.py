"""Tests for the text encoder with WordLlama's word vectors."""

import sys

import numpy as np
import pytest
import torch

from pocketdit.encoders.identity import identify
from pocketdit.encoders.word_tokens import sinusoidal_positions
from pocketdit.encoders.word_vectors import VECTOR_SIZE, WordVectorEncoder
from pocketdit.errors import RunError


@pytest.fixture(scope="module")
def encoder() -> WordVectorEncoder:
    return WordVectorEncoder(context=1, max_tokens=6)


def cosine(encoder: WordVectorEncoder, first: str, second: str) -> float:
    a, b = encoder.word_vector(first), encoder.word_vector(second)
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_related_words_are_closer_than_unrelated_words(encoder: WordVectorEncoder) -> None:
    for word, related, unrelated in [
        ("dog", "puppy", "piano"),
        ("bicycle", "bike", "tomato"),
        ("red", "crimson", "seven"),
        ("car", "automobile", "turtle"),
    ]:
        assert cosine(encoder, word, related) > cosine(encoder, word, unrelated) + 0.2


def test_an_embedding_contains_the_vectors_of_the_word_and_its_neighbors(encoder: WordVectorEncoder) -> None:
    tokens = encoder.encode(["two red apples", "Dog", " "])
    assert tokens.embeddings.shape == (3, 3, 3 * VECTOR_SIZE)
    assert tokens.mask.tolist() == [[True] * 3, [True, False, False], [False] * 3]
    positions = sinusoidal_positions(6, encoder.width)
    two, red, apples = (torch.from_numpy(encoder.word_vector(word)) for word in ("two", "red", "apples"))
    nothing = torch.zeros(VECTOR_SIZE)
    expected = torch.stack([torch.cat([nothing, two, red]), torch.cat([two, red, apples]),
                            torch.cat([red, apples, nothing])]) + positions[:3]  # fmt: skip
    torch.testing.assert_close(tokens.embeddings[0], expected)
    torch.testing.assert_close(two.square().mean(), torch.tensor(1.0))
    assert not tokens.embeddings[1, 1:].any()


def test_a_word_is_the_mean_of_its_tokens(encoder: WordVectorEncoder) -> None:
    pieces = encoder._tokenizer.encode("crimson", add_special_tokens=False)
    assert len(pieces.tokens) == 2
    mean = encoder.vectors[pieces.ids].float().mean(0)
    torch.testing.assert_close(torch.from_numpy(encoder.word_vector("crimson")), mean / mean.square().mean().sqrt())


def test_long_captions_are_truncated_and_words_are_known(encoder: WordVectorEncoder) -> None:
    caption = "one two three four five six seven"
    assert encoder.encode([caption]).embeddings.shape[1] == 6
    torch.testing.assert_close(encoder.encode([caption]), encoder.encode([caption[:-6]]))
    (reading,) = encoder.read([caption])
    assert (reading.tokens, reading.seen, reading.words) == (7, 6, ())


def test_the_vectors_identify_the_encoder(encoder: WordVectorEncoder) -> None:
    changed = WordVectorEncoder(context=1, max_tokens=6)
    assert identify(changed)["weights"] == identify(encoder)["weights"]
    changed.vectors[0, 0] += 1
    assert identify(changed)["weights"] != identify(encoder)["weights"]
    assert changed.state_dict() == {}


def test_missing_extra_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wordllama", None)
    with pytest.raises(RunError, match=r"WordLlama is not installed; run: pip install 'pocketdit\[emoji\]'"):
        WordVectorEncoder()
