"""Tests for text conditioning with several encoders, and for text dropout."""

import pytest
import torch

from pocketdit.encoders.conditioning import encode_text, hide_empty, text_dropout, unconditional
from pocketdit.encoders.contract import TextTokens
from pocketdit.encoders.hashed_text import PhraseEncoder, WordEncoder


def encoded(samples: int) -> list[TextTokens]:
    encoders = (WordEncoder(8, 4), PhraseEncoder(16, 6))
    return encode_text(encoders, ["a red circle"] * (samples - 1) + [""])


def test_tokens_are_in_the_order_of_the_encoders() -> None:
    tokens = encoded(3)
    assert [entry.embeddings.shape for entry in tokens] == [(3, 3, 8), (3, 3, 16)]


def test_dropout_is_independent_per_encoder_and_sample() -> None:
    samples = 4001
    dropped = text_dropout(encoded(samples), 0.3, torch.Generator().manual_seed(0))
    hidden = torch.stack([~entry.mask[:-1].any(1) for entry in dropped])
    rates = hidden.float().mean(1)
    both = hidden.all(0).float().mean()
    # The tolerances are about four standard errors.
    assert (rates - 0.3).abs().max() < 0.03
    assert abs(both - 0.09) < 0.02


def test_dropout_hides_all_or_none_of_an_encoders_tokens_and_keeps_the_embeddings() -> None:
    tokens = encoded(64)
    dropped = text_dropout(tokens, 0.5, torch.Generator().manual_seed(1))
    for before, after in zip(tokens, dropped, strict=True):
        assert after.embeddings is before.embeddings
        same = (after.mask == before.mask).all(1)
        assert (same | ~after.mask.any(1)).all()
        assert not after.mask[-1].any()


@pytest.mark.parametrize(("probability", "kept"), [(0.0, True), (1.0, False)])
def test_dropout_with_a_probability_of_zero_or_one(probability: float, kept: bool) -> None:
    tokens = encoded(100)
    for before, after in zip(tokens, text_dropout(tokens, probability, torch.Generator()), strict=True):
        assert torch.equal(after.mask, before.mask if kept else torch.zeros_like(before.mask))


def test_dropout_depends_only_on_the_generator() -> None:
    first, second = (text_dropout(encoded(50), 0.5, torch.Generator().manual_seed(3)) for _ in range(2))
    other = text_dropout(encoded(50), 0.5, torch.Generator().manual_seed(4))
    assert all(torch.equal(a.mask, b.mask) for a, b in zip(first, second, strict=True))
    assert any(not torch.equal(a.mask, b.mask) for a, b in zip(first, other, strict=True))


def test_probability_above_one_is_rejected() -> None:
    with pytest.raises(ValueError, match="probability"):
        text_dropout(encoded(2), 1.5, torch.Generator())


def test_unconditional_hides_everything_and_does_not_change_its_input() -> None:
    tokens = encoded(2)
    assert not any(entry.mask.any() for entry in unconditional(tokens))
    assert all(entry.mask.any() for entry in tokens)


def test_list_of_encoders_can_be_empty() -> None:
    assert encode_text([], ["a"]) == []
    assert text_dropout([], 0.5, torch.Generator()) == []


@pytest.mark.parametrize("empty", ["", " ", "\n\t"])
def test_an_empty_prompt_is_unconditional_whatever_the_encoder_returns(empty: str) -> None:
    """Even for an empty text, CLIP returns visible tokens (for the beginning and the end of the text)."""
    tokens = [TextTokens(torch.randn(2, 3, 8), torch.ones(2, 3) > 0)]
    (hidden,) = hide_empty(tokens, ["a red circle", empty])
    assert hidden.mask.tolist() == [[True] * 3, [False] * 3]
    assert torch.equal(hidden.mask[1:], unconditional(tokens)[0].mask[1:])
    assert hidden.embeddings is tokens[0].embeddings
