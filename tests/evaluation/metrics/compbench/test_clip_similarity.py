from collections.abc import Callable

import numpy as np
import pytest

from evaluation.contract import ImageArray, ImageTextEncoder, Prompt
from evaluation.metrics.compbench.clip_similarity import ClipSimilarity


def test_cosine_of_picture_and_prompt(clip: ImageTextEncoder, drawn: Callable[..., ImageArray]) -> None:
    pictures = [drawn(("circle", "red", 60, 64)), drawn(("star", "blue", 60, 64)), drawn()]
    scores = ClipSimilarity(clip).score(pictures, Prompt("x", "a person looks at a rainbow"))
    text, seen = clip.encode_texts(["a person looks at a rainbow"])[0], clip.encode_images(pictures)
    expected = [np.dot(row, text) / np.linalg.norm(row) / np.linalg.norm(text) for row in seen]
    assert scores == pytest.approx(expected, abs=1e-6)
    assert len(set(scores)) == 3
    assert ClipSimilarity(clip).score(pictures, Prompt("x", "another")) != pytest.approx(scores, abs=1e-3)
