"""Tests that rendered shapes have the area, centroid, and colors that their scene specifies."""

import numpy as np
import pytest

from datamodules.scenes.render import OUTLINES, render_scene
from datamodules.scenes.scene import BACKGROUNDS, COLORS, Object, Scene


def polygon_area(corners: list[tuple[float, float]]) -> float:
    pairs = zip(corners, corners[1:] + corners[:1], strict=True)
    return abs(sum(a * d - b * c for (a, b), (c, d) in pairs)) / 2


@pytest.mark.parametrize("shape", OUTLINES)
def test_area_and_centroid_match_the_outline(shape: str) -> None:
    item = Object(shape, "green", "large", 61.3, 50.8, 21.7)
    image = render_scene(Scene(160, 96, "white", (item,)))
    assert (image.mode, image.size) == ("RGB", (160, 96))
    white, green = (np.array(c, float) for c in (BACKGROUNDS["white"], COLORS["green"]))
    coverage = ((np.asarray(image, float) - white) @ (green - white)) / np.sum((green - white) ** 2)
    rows, columns = np.mgrid[:96, :160] + 0.5
    area = coverage.sum()
    assert area == pytest.approx(polygon_area(OUTLINES[shape]) * item.radius**2, rel=0.03)
    assert np.sum(coverage * columns) / area == pytest.approx(item.x, abs=0.2)
    assert np.sum(coverage * rows) / area == pytest.approx(item.y, abs=0.2)


def test_colors_are_exact_and_edges_are_antialiased() -> None:
    item = Object("circle", "blue", "large", 64, 64, 20)
    pixels = np.asarray(render_scene(Scene(128, 128, "grey", (item,))))
    assert tuple(pixels[64, 64]) == COLORS["blue"]
    assert tuple(pixels[5, 5]) == BACKGROUNDS["grey"]
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 8


def test_later_objects_do_not_paint_over_earlier_ones() -> None:
    """The boxes of nearby objects can overlap even if the objects do not, so only the shapes must be painted."""
    first = Object("circle", "red", "small", 40, 64, 12)
    second = Object("circle", "blue", "small", 66, 64, 12)
    both = np.asarray(render_scene(Scene(128, 128, "grey", (first, second))))
    alone = np.asarray(render_scene(Scene(128, 128, "grey", (first,))))
    assert np.array_equal(both[:, :53], alone[:, :53])
