"""Tests for counting the parts of captions that text encoders do not see."""

from collections.abc import Sequence

import pytest
import torch

from pocketdit.encoders.contract import CaptionReader, TextTokens
from pocketdit.encoders.coverage import CaptionCoverage, coverage_lines
from pocketdit.encoders.hashed_text import PhraseEncoder, WordEncoder

CAPTIONS = ("a red circle", "one two three four five", "\U0001f534\U0001f535", "... !", "price: 5 $ or 6 $")


def _coverage(encoder: WordEncoder | PhraseEncoder, captions: Sequence[str]) -> CaptionCoverage:
    coverage = CaptionCoverage([encoder])
    coverage.add(captions)
    return coverage


@pytest.mark.parametrize("encoder", [WordEncoder(max_tokens=4), PhraseEncoder(max_tokens=4)])
def test_reading_agrees_with_the_encoded_tokens(encoder: WordEncoder | PhraseEncoder) -> None:
    assert isinstance(encoder, CaptionReader)
    readings = encoder.read(CAPTIONS)
    assert [reading.seen for reading in readings] == encoder.encode(CAPTIONS).mask.sum(1).tolist() == [3, 4, 0, 0, 4]
    assert [reading.tokens for reading in readings] == [3, 5, 0, 0, 4]
    assert [reading.unknown for reading in readings] == [(), (), ("\U0001f534", "\U0001f535"), (), ("$",)]


def test_cut_empty_and_unknown_captions_are_counted_for_each_encoder() -> None:
    (line,) = coverage_lines({"train": _coverage(WordEncoder(max_tokens=4), CAPTIONS)}, complete=True)
    assert line == (
        "WordEncoder does not see everything in 5 train captions: 1 truncated to 4 tokens, 2 without any token, "
        "2 with parts that have no token (\U0001f534, \U0001f535, $)"
    )


def test_words_that_do_not_occur_in_training_are_counted_only_if_all_training_captions_were_read() -> None:
    encoder = WordEncoder()
    coverages = {
        "train": _coverage(encoder, ["a red circle", "a blue square"]),
        "validation": _coverage(encoder, ["a red square", "a teal kimono", "a kimono"]),
    }
    (line,) = coverage_lines(coverages, complete=True)
    assert line == (
        "WordEncoder does not see everything in 3 validation captions: 2 words missing from the training captions "
        "(kimono, teal)"
    )
    assert coverage_lines(coverages, complete=False) == []


def test_encoder_that_cannot_read_captions_is_left_out() -> None:
    class Plain:
        width, max_tokens = 4, 2

        def encode(self, captions: Sequence[str]) -> TextTokens:
            return TextTokens(torch.zeros(len(captions), 2, 4), torch.ones(len(captions), 2, dtype=torch.bool))

    coverage = CaptionCoverage([Plain()])
    coverage.add(["a"])
    assert coverage.lines("train") == []
