"""Tests the similarity score against cosines computed directly."""

from collections.abc import Callable

import numpy as np
import pytest

from evaluation.contract import ImageArray, ImageTextEncoder, Prompt
from evaluation.metrics.compbench.clip_similarity import ClipSimilarity


def test_score_is_the_cosine_of_image_and_prompt(
    clip: ImageTextEncoder, render_objects: Callable[..., ImageArray]
) -> None:
    circle, star = ("circle", "red", 60, 64), ("star", "blue", 60, 64)
    images = [render_objects(circle), render_objects(star), render_objects()]
    scores = ClipSimilarity(clip).score(images, Prompt("x", "a person looks at a rainbow"))
    text, features = clip.encode_texts(["a person looks at a rainbow"])[0], clip.encode_images(images)
    expected = [np.dot(row, text) / np.linalg.norm(row) / np.linalg.norm(text) for row in features]
    assert scores == pytest.approx(expected, abs=1e-6)
    assert len(set(scores)) == 3
    assert ClipSimilarity(clip).score(images, Prompt("x", "another")) != pytest.approx(scores, abs=1e-3)
