"""Tests for the accuracy on held-out captions, with rendered images whose verdicts are known."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluation.contract import ImageArray, ImageSet, Prompt, PromptSet
from evaluation.metrics.scene_accuracy import SceneAccuracy
from evaluation.prompts.scenes import HeldOutCaptions
from evaluation.scenes.judges.judge import judge_image
from pocketdit.errors import UserError

RED_CIRCLE = {"tag": "single_object", "include": [{"class": "circle", "count": 1, "color": "red"}], "exclude": []}
BLUE_STAR = {"tag": "color_attr", "include": [{"class": "star", "count": 1, "color": "blue"}], "exclude": []}


@pytest.fixture
def images(tmp_path: Path, render_objects: Callable[..., ImageArray]) -> ImageSet:
    """Four images, three of which are correct."""
    circle, star = (render_objects(item) for item in (("circle", "red", 60, 64), ("star", "blue", 60, 64)))
    prompts = (Prompt("a", "a red circle", RED_CIRCLE), Prompt("b", "a blue star", BLUE_STAR))
    files = {}
    for name, arrays in (("a", (circle, star)), ("b", (star, star))):
        files[name] = tuple(tmp_path / f"{name}{i}.png" for i in range(2))
        for path, array in zip(files[name], arrays, strict=True):
            Image.fromarray(array).save(path)
    return ImageSet(PromptSet("scene-captions", prompts, images_each=2), files, {})


def test_scores_are_shares_of_correct_images(images: ImageSet) -> None:
    result = SceneAccuracy("captions").score(images)
    assert result.metric == "scene-accuracy (scene-rules)"
    assert {name: (score.value, score.samples) for name, score in result.scores.items()} == {
        "overall": (0.75, 4),
        "single_object": (0.5, 2),
        "color_attr": (1.0, 2),
    }
    assert result.scores["overall"].by_prompt == {"a": 0.5, "b": 1.0}


def test_scores_are_zero_if_the_judge_rejects_all_images(tmp_path: Path) -> None:
    """Noise never matches a caption from any group."""
    prompts = HeldOutCaptions(8).load()
    files = {}
    for prompt in prompts.prompts:
        array = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
        assert not judge_image(array, dict(prompt.metadata)).correct
        files[prompt.id] = (tmp_path / f"{prompt.id}.png",)
        Image.fromarray(array).save(files[prompt.id][0])
    result = SceneAccuracy("captions").score(ImageSet(prompts, files, {}))
    assert set(result.scores) == {"overall", "single_object", "color_attr", "position", "counting"}
    assert all(score.value == 0 for score in result.scores.values())


def test_invalid_image_sets_are_errors(images: ImageSet) -> None:
    with pytest.raises(UserError, match=r"prompt b .* has no images"):
        SceneAccuracy("captions").score(ImageSet(images.prompts, {"a": images.images["a"]}, {}))
    other = PromptSet("mine", (Prompt("a", "a cat"),))
    with pytest.raises(UserError, match="prompt set mine: the metadata of prompt a has no tag or no objects"):
        SceneAccuracy("captions").score(ImageSet(other, images.images, {}))
