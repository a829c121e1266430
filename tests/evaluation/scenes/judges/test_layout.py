"""Tests that sizes and places are inferred correctly from the exact areas and centers of objects."""

import pytest

from datamodules.scenes.captions import place_of
from datamodules.scenes.scene import REACH, SIZES
from datamodules.scenes.split import generate_scenes
from evaluation.scenes.judges.layout import large_probability, place_probabilities, shorter_sides
from evaluation.scenes.judges.shapes import unit_area


def test_areas_of_outlines() -> None:
    assert unit_area("square") == pytest.approx(1.76**2)
    assert unit_area("circle") == pytest.approx(3.1366, abs=1e-3)  # the circle is a polygon with 64 corners
    assert unit_area("cross") == pytest.approx(2 * 2.24 * 0.72 - 0.72**2)


def test_size_and_place_of_every_object() -> None:
    for sample in generate_scenes("train", 400, seed=8):
        scene = sample.scene
        sides = shorter_sides([(item.x, item.y) for item in scene.objects], scene.width, scene.height)
        for item, side in zip(scene.objects, sides, strict=True):
            least, most = SIZES[item.size]
            assert least - 0.01 < 2 * REACH * item.radius / side < most + 0.01
            large = large_probability(item.shape, unit_area(item.shape) * item.radius**2, side)
            assert (large if item.size == "large" else 1 - large) > 0.95
            places = place_probabilities((item.x, item.y), scene.width, scene.height)
            assert sum(places.values()) == pytest.approx(1)
            assert max(places, key=lambda place: places[place]) == place_of(scene, item)


def test_scene_without_objects_has_no_sides() -> None:
    assert shorter_sides([], 128, 128) == []
