"""Crops of the photographs that scikit-image includes. Some photographs are held out."""

from functools import cache
from importlib.resources import files

import numpy as np
from PIL import Image

from datamodules.shards.schema import Split
from pocketdit.errors import UserError

PHOTOGRAPHS: dict[Split, tuple[str, ...]] = {
    "train": (
        "astronaut.png",
        "brick.png",
        "clock_motion.png",
        "coffee.png",
        "coins.png",
        "grass.png",
        "gravel.png",
        "hubble_deep_field.jpg",
        "ihc.png",
        "moon.png",
        "retina.jpg",
        "rocket.jpg",
    ),
    "validation": ("camera.png", "chelsea.png", "motorcycle_left.png"),
}


@cache
def open_photograph(name: str) -> Image.Image:
    """Open a photograph as an RGB image. The image is cached, so callers must not modify it.

    Raises:
        UserError: scikit-image is not installed.
    """
    try:
        folder = files("skimage") / "data"
    except ModuleNotFoundError as error:
        raise UserError("reconstruction: scikit-image is not installed; run: pip install 'pocketdit[emoji]'") from error
    with (folder / name).open("rb") as file:
        return Image.open(file).convert("RGB")


def random_crop(split: Split, size: int, rng: np.random.Generator) -> Image.Image:
    """Crop a random square from a random photograph of a split, and scale the square to ``size`` pixels.

    The side of the square is between ``size`` and the shorter side of the photograph. Half of the crops are mirrored.
    """
    names = PHOTOGRAPHS[split]
    image = open_photograph(names[int(rng.integers(len(names)))])
    shorter = min(image.size)
    side = int(rng.integers(min(size, shorter), shorter + 1))
    left, top = int(rng.integers(image.width - side + 1)), int(rng.integers(image.height - side + 1))
    crop = image.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.LANCZOS)
    return crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else crop


def tiles(name: str, size: int) -> list[Image.Image]:
    """Divide a photograph at its original resolution into a grid of squares with sides of ``size`` pixels."""
    image = open_photograph(name)
    corners = [
        (left, top)
        for top in range(0, image.height - size + 1, size)
        for left in range(0, image.width - size + 1, size)
    ]
    return [image.crop((left, top, left + size, top + size)) for left, top in corners]
