"""Tests for the detector and the color reader on intact and corrupted scenes."""

import dataclasses
import io
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from scipy.fft import dctn, idctn

from datamodules.scenes.render import render_scene
from datamodules.scenes.scene import COLORS, Object, Scene
from datamodules.scenes.split import generate_scenes
from evaluation.contract import Detection
from evaluation.scenes.judges.colors import SceneColorReader
from evaluation.scenes.judges.detector import SceneDetector, find_objects
from evaluation.scenes.judges.shapes import MIN_CORRELATION, UNCLEAR, shape_probabilities

Pixels = NDArray[np.uint8]

SAMPLES = list(generate_scenes("train", 80, seed=11))


def blurred(pixels: Pixels) -> Pixels:
    smoothed: NDArray[np.float64] = ndimage.gaussian_filter(pixels.astype(float), (1.5, 1.5, 0))
    return np.clip(smoothed, 0, 255).astype(np.uint8)


def jpeg(pixels: Pixels) -> Pixels:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=50)
    return np.asarray(Image.open(buffer))


def few_coefficients(pixels: Pixels) -> Pixels:
    """Keep the lowest 10 luma and 3 + 3 chroma DCT coefficients of each 8x8 block."""
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


@pytest.mark.parametrize("corrupt", [np.asarray, blurred, jpeg, few_coefficients, noisy])
def test_objects_are_detected_in_corrupted_scenes(corrupt: Callable[[Pixels], Pixels]) -> None:
    agree = 0
    for sample in SAMPLES:
        detected = find_objects(corrupt(np.asarray(render_scene(sample.scene))))
        correct = sorted((d.shape, d.color_name) for d in detected) == sorted(i.kind for i in sample.scene.objects)
        agree += correct
        if correct:
            for item in sample.scene.objects:
                near = [d for d in detected if np.hypot(d.center[0] - item.x, d.center[1] - item.y) < 1]
                assert [(d.shape, d.color_name) for d in near] == [item.kind]
    assert agree >= 0.98 * len(SAMPLES)


def render(*objects: Object, background: str = "white") -> Pixels:
    return np.asarray(render_scene(Scene(128, 128, background, tuple(objects))))


RED = Object("circle", "red", "small", 30, 30, 12)
BLUE = Object("square", "blue", "small", 90, 34, 12)


def test_touching_objects_of_two_colors_are_separated() -> None:
    joined = render(dataclasses.replace(RED, x=52, y=64, radius=15), dataclasses.replace(BLUE, x=78, y=64, radius=15))
    assert {(d.shape, d.color_name) for d in find_objects(joined)} == {("circle", "red"), ("square", "blue")}


def test_box_and_area_of_a_square() -> None:
    (square,) = find_objects(render(Object("square", "green", "large", 64, 50, 25)))
    assert square.box == pytest.approx((42, 28, 86, 72), abs=1)
    assert square.area == pytest.approx(44 * 44, rel=0.05)


def test_unknown_shape_is_unclear() -> None:
    pixels = render().copy()
    pixels[60:66, 20:110] = COLORS["red"]
    assert [(d.shape, d.color_name) for d in find_objects(pixels)] == [(UNCLEAR, "red")]


def test_object_in_a_background_color_is_detected() -> None:
    pixels = render().copy()
    pixels[40:80, 40:80] = (128, 128, 128)
    assert [(d.shape, d.color_name) for d in find_objects(pixels)] == [("square", "grey")]


@pytest.mark.parametrize("value", [0, 255])
def test_empty_or_noisy_image_has_no_objects(value: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (96, 160, 3), dtype=np.uint8)
    assert find_objects(np.full((96, 160, 3), value, np.uint8)) == []
    assert all(d.shape == UNCLEAR for d in find_objects(noise))


def test_scores_are_on_the_right_side_of_genevals_thresholds() -> None:
    """GenEval counts detections that score above 0.9 and ignores those that score below 0.3."""
    (square,) = SceneDetector().detect(render(Object("square", "blue", "large", 64, 64, 30)))
    assert (square.label, square.score > 0.9) == ("square", True)
    assert square.mask is not None
    assert square.mask[64, 64]
    assert not square.mask[5, 5]
    assert square.box == pytest.approx((37.6, 37.6, 90.4, 90.4), abs=1.5)
    pixels = render().copy()
    pixels[60:66, 20:110] = COLORS["red"]
    (bar,) = SceneDetector().detect(pixels)
    assert bar.score < 0.3


def test_shape_probabilities_depend_on_all_correlations() -> None:
    """The minimum correlation yields probability 0.3 if no other shape fits. Equally good fits are equally likely."""
    alone = shape_probabilities({"circle": MIN_CORRELATION, "star": 0.0})
    assert alone["circle"] == pytest.approx(0.3, abs=1e-6)
    assert alone["star"] < 1e-6
    both = shape_probabilities({"circle": 0.98, "square": 0.98})
    assert both["circle"] == both["square"] == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("masked", [True, False])
def test_color_is_read_from_the_mask_or_the_box(masked: bool) -> None:
    """Without a mask, the color is read from the part of the box that differs from the background."""
    red, blue = Object("cross", "red", "large", 50, 50, 25), Object("star", "blue", "large", 98, 98, 20)
    pixels = render(red, blue)
    detections = [d if masked else dataclasses.replace(d, mask=None) for d in SceneDetector().detect(pixels)]
    colors = SceneColorReader().colors(pixels, detections)
    assert dict(zip([d.label for d in detections], colors, strict=True)) == {"cross": "red", "star": "blue"}


def test_empty_box_has_the_color_of_the_background() -> None:
    image = render(RED, background="grey")
    boxes = [Detection("circle", 1.0, box) for box in ((80.0, 80.0, 120.0, 120.0), (-9.0, 200.0, 500.0, 300.0))]
    assert SceneColorReader().colors(image, boxes) == ["grey", "grey"]
    assert SceneColorReader().colors(image, []) == []
