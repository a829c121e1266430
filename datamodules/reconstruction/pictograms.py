"""All color pictograms of OpenMoji. Some pictograms are held out."""

import hashlib
from functools import cache

import numpy as np
from PIL import Image

from datamodules.pictograms.catalog import CATALOG, svg_folder
from datamodules.pictograms.composition import BACKGROUNDS
from datamodules.pictograms.render import render_svg
from datamodules.shards.schema import Split

_HELD_OUT_PERCENT = 6
_SKIN_TONES = {"1F3FB", "1F3FC", "1F3FD", "1F3FE", "1F3FF"}
_SIDES = (0.4, 1.0)  # range of the side of a pictogram as a fraction of the image's side


@cache
def codes(split: Split) -> tuple[str, ...]:
    """Return the names (without extensions) of the SVG files in a split, excluding skin-tone variants.

    Pictograms that share their first code point, such as a woman and a man with the same profession, are in the same
    split. The pictograms of the catalog are in the training split.
    """
    names = sorted(path.name.removesuffix(".svg") for path in svg_folder().iterdir() if path.name.endswith(".svg"))
    plain = [name for name in names if not _SKIN_TONES & set(name.split("-"))]
    return tuple(name for name in plain if _split_of(name) == split)


def _split_of(code: str) -> Split:
    first = code.split("-")[0]
    if first in {pictogram.code for pictogram in CATALOG.values()}:
        return "train"
    digest = hashlib.blake2b(first.encode(), digest_size=8).digest()
    return "validation" if int.from_bytes(digest, "big") % 100 < _HELD_OUT_PERCENT else "train"


def random_pictogram(split: Split, size: int, rng: np.random.Generator) -> Image.Image:
    """Render a random pictogram of a split at a random size and position on a random plain background."""
    names, colors = codes(split), list(BACKGROUNDS.values())
    code = names[int(rng.integers(len(names)))]
    side = round(size * rng.uniform(*_SIDES))
    left, top = (int(value) for value in rng.integers(size - side + 1, size=2))
    return place_pictogram(code, size, side, (left, top), colors[int(rng.integers(len(colors)))])


def place_pictogram(
    code: str, size: int, side: int, corner: tuple[int, int], background: tuple[int, int, int]
) -> Image.Image:
    """Render a pictogram with sides of ``side`` pixels on a square image with sides of ``size`` pixels."""
    image = Image.new("RGBA", (size, size), (*background, 255))
    image.alpha_composite(render_svg(code, side), corner)
    return image.convert("RGB")


def whole_pictogram(code: str, size: int) -> Image.Image:
    """Render a pictogram that fills a white square image with sides of ``size`` pixels."""
    return place_pictogram(code, size, size, (0, 0), (255, 255, 255))
