"""The judge on 80 drawn scenes, whole and spoilt, and with one thing wrong."""

import dataclasses
import io
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from scipy.fft import dctn, idctn

from datamodules.scenes.draw import draw
from datamodules.scenes.expectation import expectation
from datamodules.scenes.scene import COLORS, SHAPES, Object, Scene
from datamodules.scenes.split import CaptionedScene, scenes
from evaluation.scene_judge import UNCLEAR, detect, judge

Pixels = NDArray[np.uint8]

SAMPLES = list(scenes("train", 80, seed=11))


def blurred(pixels: Pixels) -> Pixels:
    return np.clip(ndimage.gaussian_filter(pixels.astype(float), (1.5, 1.5, 0)), 0, 255).astype(np.uint8)


def jpeg(pixels: Pixels) -> Pixels:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=50)
    return np.asarray(Image.open(buffer))


def few_coefficients(pixels: Pixels) -> Pixels:
    """Keeps the lowest 10 luma and 3 + 3 chroma DCT coefficients of every 8x8 block."""
    ycc = np.asarray(Image.fromarray(pixels).convert("YCbCr"), float)
    height, width, _ = ycc.shape
    blocks = dctn(ycc.reshape(height // 8, 8, width // 8, 8, 3), axes=(1, 3), norm="ortho")
    order = np.add.outer(np.arange(8), np.arange(8))
    blocks[..., 0] *= (order < 4)[None, :, None, :]
    blocks[..., 1:] *= (order < 2)[None, :, None, :, None]
    ycc = idctn(blocks, axes=(1, 3), norm="ortho").reshape(height, width, 3)
    return np.asarray(Image.fromarray(np.clip(ycc, 0, 255).round().astype(np.uint8), "YCbCr").convert("RGB"))


def noisy(pixels: Pixels) -> Pixels:
    noise = np.random.default_rng(0).normal(0, 20, pixels.shape)
    return np.clip(pixels + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("spoil", [np.asarray, blurred, jpeg, few_coefficients, noisy])
def test_finds_what_was_drawn(spoil: Callable[[Pixels], Pixels]) -> None:
    agree = 0
    for sample in SAMPLES:
        found = detect(spoil(np.asarray(draw(sample.scene))))
        right = sorted((d.shape, d.color) for d in found) == sorted(i.kind for i in sample.scene.objects)
        agree += right
        if right:
            for item in sample.scene.objects:
                near = [d for d in found if np.hypot(d.center[0] - item.x, d.center[1] - item.y) < 1]
                assert [(d.shape, d.color) for d in near] == [item.kind]
    assert agree >= 0.98 * len(SAMPLES)


def wrong(sample: CaptionedScene, rng: np.random.Generator) -> Iterator[Scene]:
    """Versions of the scene that no longer show the caption."""
    scene, asked = sample.scene, expectation(sample.captions[0])
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
        asked = expectation(sample.captions[0])
        passed += judge(np.asarray(draw(sample.scene)), asked).correct
        for scene in wrong(sample, rng):
            wrongs += 1
            noticed += not judge(blurred(np.asarray(draw(scene))), asked).correct
    assert passed >= 0.98 * len(SAMPLES)
    assert wrongs > 240 and noticed >= 0.95 * wrongs


def picture(*objects: Object, background: str = "white") -> Pixels:
    return np.asarray(draw(Scene(128, 128, background, tuple(objects))))


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
    verdict = judge(picture(*objects), expectation(caption))
    assert (verdict.reason, verdict.correct) == (reason, reason == "as asked")
    assert len(verdict.detections) == len(objects)


def test_touching_objects_of_two_colours_are_told_apart() -> None:
    joined = picture(dataclasses.replace(RED, x=52, y=64, radius=15), dataclasses.replace(BLUE, x=78, y=64, radius=15))
    assert {(d.shape, d.color) for d in detect(joined)} == {("circle", "red"), ("square", "blue")}


def test_box_and_area_of_a_square() -> None:
    (found,) = detect(picture(Object("square", "green", "large", 64, 50, 25)))
    assert found.box == pytest.approx((42, 28, 86, 72), abs=1)
    assert found.area == pytest.approx(44 * 44, rel=0.05)


def test_a_shape_that_is_none_of_ours_is_unclear() -> None:
    pixels = picture()
    pixels = pixels.copy()
    pixels[60:66, 20:110] = COLORS["red"]
    assert [(d.shape, d.color) for d in detect(pixels)] == [(UNCLEAR, "red")]


def test_an_object_in_no_asked_colour() -> None:
    pixels = picture().copy()
    pixels[40:80, 40:80] = (128, 128, 128)
    assert [(d.shape, d.color) for d in detect(pixels)] == [("square", "grey")]


@pytest.mark.parametrize("value", [0, 255])
def test_an_empty_or_noisy_picture_holds_nothing(value: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (96, 160, 3), dtype=np.uint8)
    assert detect(np.full((96, 160, 3), value, np.uint8)) == []
    assert all(d.shape == UNCLEAR for d in detect(noise))
