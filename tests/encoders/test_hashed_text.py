"""Tests for the hash-based text encoders, which have no weights: vectors, positions, masks, and context."""

import os
import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from pocketdit.encoders.contract import TextEncoder, TextTokens
from pocketdit.encoders.hashed_text import (
    PhraseEncoder,
    WordEncoder,
    hashed_vector,
)
from pocketdit.encoders.word_tokens import sinusoidal_positions, split_words

ENCODERS = [WordEncoder, PhraseEncoder]


def without_positions(encoder: WordEncoder | PhraseEncoder, caption: str) -> torch.Tensor:
    """Return the vectors (words, width) of a caption's words without the position embeddings."""
    tokens = encoder.encode([caption])
    return (tokens.embeddings - encoder.positions[: tokens.mask.shape[1]])[0, tokens.mask[0]]


def test_split_words() -> None:
    assert split_words("A red-blue Circle, left_of 2 'dogs'. Été") == [
        "a", "red", "blue", "circle", "left", "of", "2", "dogs", "été"
    ]  # fmt: skip
    assert split_words(" ...!") == []


def test_hashed_vectors_have_unit_variance_and_are_nearly_orthogonal() -> None:
    vectors = np.stack([hashed_vector(f"word{i}", 192) for i in range(200)])
    np.testing.assert_array_equal(vectors**2, 1)
    cosines = vectors @ vectors.T / 192 - np.eye(200)
    assert np.abs(cosines).max() < 0.4
    assert abs(vectors.mean()) < 0.02


def test_hashed_vectors_do_not_change_between_versions() -> None:
    assert hashed_vector("red", 10).tolist() == [-1, 1, -1, -1, 1, -1, -1, -1, -1, 1]


def test_encoder_returns_the_same_result_in_another_process() -> None:
    code = (
        "from pocketdit.encoders.hashed_text import PhraseEncoder as P;"
        "print(P(16, 4).encode(['a red circle']).embeddings.double().sum().item())"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code]
    process = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    expected = PhraseEncoder(16, 4).encode(["a red circle"]).embeddings.double().sum().item()
    assert float(process.stdout) == expected


@pytest.mark.parametrize("kind", ENCODERS)
@pytest.mark.parametrize("captions", [["a red circle", "", "one two three four five six seven"], ["?!"], []])
def test_shapes_and_masks(kind: type[WordEncoder | PhraseEncoder], captions: Sequence[str]) -> None:
    encoder: TextEncoder = kind(width=32, max_tokens=5)
    tokens = encoder.encode(captions)
    assert isinstance(tokens, TextTokens)
    lengths = [min(5, len(split_words(caption))) for caption in captions]
    assert tokens.embeddings.shape == (len(captions), max(lengths, default=0), 32)
    assert tokens.embeddings.dtype == torch.float32
    assert tokens.mask.dtype == torch.bool
    assert tokens.mask.sum(1).tolist() == lengths
    assert not tokens.embeddings[~tokens.mask].any()
    for row in tokens.mask:
        assert row.tolist() == sorted(row.tolist(), reverse=True)


@pytest.mark.parametrize("kind", ENCODERS)
def test_tokens_do_not_depend_on_the_batch_or_on_case(kind: type[WordEncoder | PhraseEncoder]) -> None:
    encoder = kind(width=32, max_tokens=6)
    alone = encoder.encode(["a red circle"]).embeddings
    in_batch = encoder.encode(["something else entirely, and longer", "A Red CIRCLE!"]).embeddings
    torch.testing.assert_close(alone[0], in_batch[1, :3], atol=0, rtol=0)
    assert in_batch.shape[1] == 5
    assert not in_batch[1, 3:].any()


def test_word_vector_does_not_depend_on_its_position() -> None:
    encoder = WordEncoder(width=64, max_tokens=8)
    vectors = without_positions(encoder, "red circle beside a red square")
    torch.testing.assert_close(vectors[0], vectors[4], atol=1e-5, rtol=0)
    assert (vectors[0] - vectors[1]).abs().max() > 1


def test_order_of_words_changes_the_embeddings() -> None:
    encoder = WordEncoder(width=64, max_tokens=8)
    tokens = encoder.encode(["red circle", "circle red"]).embeddings
    assert (tokens[0].sum(0) - tokens[1].sum(0)).abs().max() < 1e-5
    assert (tokens[0, 0] - tokens[1, 1]).abs().max() > 0.5


def test_phrase_token_depends_on_the_word_and_its_neighbors() -> None:
    encoder = PhraseEncoder(width=1024, max_tokens=8)
    red = without_positions(encoder, "a red circle above a blue square")
    blue = without_positions(encoder, "a blue circle above a red square")
    cosine = torch.nn.functional.cosine_similarity
    assert cosine(red, red.roll(1, 0)).abs().max() < 0.6
    assert 0.4 < cosine(red[2], blue[2], dim=0) < 0.8
    # The token of a word does not depend on the word three places before it.
    far = [without_positions(encoder, f"{word} is the circle")[3] for word in ("red", "blue")]
    torch.testing.assert_close(*far)
    assert (red.square().mean(1) - 1).abs().max() < 0.3


def test_positions_differ_and_are_bounded() -> None:
    positions = sinusoidal_positions(64, 128)
    assert positions.shape == (64, 128)
    assert positions.abs().max() <= 1
    assert torch.pdist(positions).min() > 1


@pytest.mark.parametrize("kind", ENCODERS)
def test_encoder_has_no_weights_and_moves_between_devices(kind: type[WordEncoder | PhraseEncoder]) -> None:
    encoder = kind().train()
    assert not list(encoder.parameters())
    assert not encoder.state_dict()
    assert not encoder.training
    assert encoder.to("meta").encode(["a red circle"]).embeddings.device.type == "meta"


def test_odd_width_is_rejected() -> None:
    with pytest.raises(ValueError, match="width must be even and max_tokens at least 2, not 7 and 24"):
        WordEncoder(width=7)
