"""Tests for preference scores with known features."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from evaluation.contract import Backend, ImageArray, ImageSet, Prompt, PromptSet
from evaluation.metrics.preference import PreferenceScore
from pocketdit.errors import ConfigError
from tests.evaluation.conftest import Save


class PlaneEncoder:
    """Encodes texts as (1, 0), and images as unit vectors whose first coordinate is their brightness."""

    backend = Backend("plane", "1")

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.array([[1, 0]] * len(texts), np.float32)

    def encode_images(self, images: Sequence[ImageArray]) -> NDArray[np.float32]:
        cosine = np.array([image[0, 0, 0] / 255 for image in images])
        return np.stack([cosine, np.sqrt(1 - cosine**2)], axis=1).astype(np.float32)


class ScaledEncoder(PlaneEncoder):
    logit_scale = 40.0


@pytest.fixture
def images(save: Save) -> ImageSet:
    """Two images with cosines of 0.2 and 0.6 for one prompt, and two images with a cosine of 1 for another prompt."""
    prompts = PromptSet("p", (Prompt("a", "x"), Prompt("b", "y")), 2)
    grays = {"a": (51, 153), "b": (255, 255)}
    return save(prompts, {name: [np.full((4, 4, 3), v, np.uint8) for v in values] for name, values in grays.items()})


def test_hps_is_the_cosine_and_pickscore_the_scaled_cosine(images: ImageSet) -> None:
    hps = PreferenceScore("p", "hpsv2.1", ScaledEncoder()).score(images)
    assert hps.metric == "hpsv2.1 (plane)"
    assert hps.scores["overall"].by_prompt == pytest.approx({"a": 0.4, "b": 1.0})
    assert hps.scores["overall"].value == pytest.approx(0.7)
    pick = PreferenceScore("p", "pickscore", ScaledEncoder()).score(images)
    assert pick.metric == "pickscore (plane)"
    assert pick.scores["overall"].value == pytest.approx(28)
    assert pick.scores["overall"].samples == 4
    assert (pick.protocol["scale"], hps.protocol["scale"]) == (40, 1)


def test_wrong_use_is_reported() -> None:
    with pytest.raises(ConfigError, match="encoder: plane has no logit scale, which PickScore needs"):
        PreferenceScore("p", "pickscore", PlaneEncoder())
    with pytest.raises(ConfigError, match=r"kind must be pickscore or hpsv2\.1, not hps"):
        PreferenceScore("p", "hps", PlaneEncoder())  # type: ignore[arg-type]
