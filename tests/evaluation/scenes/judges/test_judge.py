"""Tests for the judge's verdicts on 80 rendered scenes with and without errors."""

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from datamodules.scenes.expectation import parse_expectation
from datamodules.scenes.render import render_scene
from datamodules.scenes.scene import COLORS, SHAPES, Object, Scene
from datamodules.scenes.split import CaptionedScene, generate_scenes
from evaluation.scenes.judges.judge import axis_cosine, judge_image

Pixels = NDArray[np.uint8]

SAMPLES = list(generate_scenes("train", 80, seed=11))


def blurred(pixels: Pixels) -> Pixels:
    smoothed: NDArray[np.float64] = ndimage.gaussian_filter(pixels.astype(float), (1.5, 1.5, 0))
    return np.clip(smoothed, 0, 255).astype(np.uint8)


def wrong_scenes(sample: CaptionedScene, rng: np.random.Generator) -> Iterator[Scene]:
    """Yield versions of the scene that no longer match the caption."""
    scene, expectation = sample.scene, parse_expectation(sample.captions[0])
    objects = list(scene.objects)
    index = int(rng.integers(len(objects)))
    item = objects[index]
    color = str(rng.choice([c for c in COLORS if c != item.color]))
    shape = str(rng.choice([s for s in SHAPES if s != item.shape]))
    for changed in ([dataclasses.replace(item, color=color)], [dataclasses.replace(item, shape=shape)], []):
        yield dataclasses.replace(scene, objects=(*objects[:index], *changed, *objects[index + 1 :]))
    if expectation["tag"] == "position":
        a, b = objects
        swapped = (dataclasses.replace(a, x=b.x, y=b.y), dataclasses.replace(b, x=a.x, y=a.y))
        yield dataclasses.replace(scene, objects=swapped)


def test_correct_images_pass_and_wrong_ones_fail() -> None:
    rng = np.random.default_rng(0)
    passed, wrong, rejected = 0, 0, 0
    for sample in SAMPLES:
        expectation = parse_expectation(sample.captions[0])
        passed += judge_image(np.asarray(render_scene(sample.scene)), expectation).correct
        for scene in wrong_scenes(sample, rng):
            wrong += 1
            rejected += not judge_image(blurred(np.asarray(render_scene(scene))), expectation).correct
    assert passed >= 0.98 * len(SAMPLES)
    assert wrong > 240
    assert rejected >= 0.95 * wrong


def render(*objects: Object, background: str = "white") -> Pixels:
    return np.asarray(render_scene(Scene(128, 128, background, tuple(objects))))


RED = Object("circle", "red", "small", 30, 30, 12)
BLUE = Object("square", "blue", "small", 90, 34, 12)


@pytest.mark.parametrize(
    ("objects", "caption", "reason"),
    [
        ([RED], "a red circle", "matches the prompt"),
        ([RED], "a blue circle", "blue circle: found 0, expected 1"),
        ([RED, BLUE], "a red circle left of a blue square", "matches the prompt"),
        ([RED, BLUE], "a blue square left of a red circle", "blue square: not left of the other object"),
        ([RED, BLUE], "a red circle above a blue square", "red circle: not above the other object"),
        ([RED, dataclasses.replace(RED, y=90)], "two red circles", "matches the prompt"),
        (
            [RED, dataclasses.replace(RED, y=90), dataclasses.replace(RED, x=90)],
            "two red circles",
            "red circle: found 3, expected at most 2",
        ),
        ([], "a red circle", "red circle: found 0, expected 1"),
    ],
)
def test_reasons_of_verdicts(objects: list[Object], caption: str, reason: str) -> None:
    verdict = judge_image(render(*objects), parse_expectation(caption))
    assert (verdict.reason, verdict.correct) == (reason, reason == "matches the prompt")
    assert len(verdict.objects) == len(objects)


def test_axis_cosine() -> None:
    assert axis_cosine("left of", (0, 0), (10, 0)) == pytest.approx(1)
    assert axis_cosine("above", (0, 0), (10, 0)) == pytest.approx(0)
    assert axis_cosine("below", (3, 10), (3, 0)) == pytest.approx(1)
    assert axis_cosine("right of", (1, 3**0.5), (0, 0)) == pytest.approx(0.5)
    assert axis_cosine("right of", (5, 5), (5, 5)) == 0
