"""The judge on 80 drawn scenes, whole and with one thing wrong."""

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
from evaluation.scenes.judges.judge import axis_share, judge_image

Pixels = NDArray[np.uint8]

SAMPLES = list(generate_scenes("train", 80, seed=11))


def blurred(pixels: Pixels) -> Pixels:
    return np.clip(ndimage.gaussian_filter(pixels.astype(float), (1.5, 1.5, 0)), 0, 255).astype(np.uint8)


def wrong(sample: CaptionedScene, rng: np.random.Generator) -> Iterator[Scene]:
    """Versions of the scene that no longer show the caption."""
    scene, asked = sample.scene, parse_expectation(sample.captions[0])
    objects = list(scene.objects)
    index = int(rng.integers(len(objects)))
    item = objects[index]
    color = str(rng.choice([c for c in COLORS if c != item.color]))
    shape = str(rng.choice([s for s in SHAPES if s != item.shape]))
    for broken in ([dataclasses.replace(item, color=color)], [dataclasses.replace(item, shape=shape)], []):
        yield dataclasses.replace(scene, objects=(*objects[:index], *broken, *objects[index + 1 :]))
    if asked["tag"] == "position":
        a, b = objects
        swapped = (dataclasses.replace(a, x=b.x, y=b.y), dataclasses.replace(b, x=a.x, y=a.y))
        yield dataclasses.replace(scene, objects=swapped)


def test_passes_the_true_and_fails_the_wrong() -> None:
    rng = np.random.default_rng(0)
    passed, wrongs, noticed = 0, 0, 0
    for sample in SAMPLES:
        asked = parse_expectation(sample.captions[0])
        passed += judge_image(np.asarray(render_scene(sample.scene)), asked).correct
        for scene in wrong(sample, rng):
            wrongs += 1
            noticed += not judge_image(blurred(np.asarray(render_scene(scene))), asked).correct
    assert passed >= 0.98 * len(SAMPLES)
    assert wrongs > 240 and noticed >= 0.95 * wrongs


def picture(*objects: Object, background: str = "white") -> Pixels:
    return np.asarray(render_scene(Scene(128, 128, background, tuple(objects))))


RED = Object("circle", "red", "small", 30, 30, 12)
BLUE = Object("square", "blue", "small", 90, 34, 12)


@pytest.mark.parametrize(
    ("objects", "caption", "reason"),
    [
        ([RED], "a red circle", "as asked"),
        ([RED], "a blue circle", "found 0 blue circle, asked for 1"),
        ([RED, BLUE], "a red circle left of a blue square", "as asked"),
        ([RED, BLUE], "a blue square left of a red circle", "blue square is not left of the other object"),
        ([RED, BLUE], "a red circle above a blue square", "red circle is not above the other object"),
        ([RED, dataclasses.replace(RED, y=90)], "two red circles", "as asked"),
        (
            [RED, dataclasses.replace(RED, y=90), dataclasses.replace(RED, x=90)],
            "two red circles",
            "found 3 red circle, at most 2 allowed",
        ),
        ([], "a red circle", "found 0 red circle, asked for 1"),
    ],
)
def test_reasons(objects: list[Object], caption: str, reason: str) -> None:
    verdict = judge_image(picture(*objects), parse_expectation(caption))
    assert (verdict.reason, verdict.correct) == (reason, reason == "as asked")
    assert len(verdict.found) == len(objects)


def test_share_of_the_axis() -> None:
    assert axis_share("left of", (0, 0), (10, 0)) == pytest.approx(1)
    assert axis_share("above", (0, 0), (10, 0)) == pytest.approx(0)
    assert axis_share("below", (3, 10), (3, 0)) == pytest.approx(1)
    assert axis_share("right of", (1, 3**0.5), (0, 0)) == pytest.approx(0.5)
    assert axis_share("right of", (5, 5), (5, 5)) == 0
