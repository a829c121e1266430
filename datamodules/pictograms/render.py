"""Renders compositions of pictograms, and determines the main colors of a pictogram."""

import io
from collections import Counter
from functools import lru_cache

import numpy as np
from PIL import Image, ImageColor

from datamodules.pictograms.catalog import CATALOG, svg_folder
from datamodules.pictograms.composition import BACKGROUNDS, Composition
from pocketdit.errors import UserError

# Mapping from the color names in captions to the fill colors of OpenMoji's palette.
_COLORS: dict[str, tuple[str, ...]] = {
    "red": ("#ea5a47", "#d22f27"),
    "orange": ("#f1b31c", "#e27022"),
    "yellow": ("#fcea2b",),
    "green": ("#b1cc33", "#5c9e31"),
    "blue": ("#92d3f5", "#61b2e4", "#1e50aa"),
    "purple": ("#b399c8", "#8967aa"),
    "pink": ("#ffa7c0", "#e67a94"),
    "brown": ("#a57939", "#6a462f"),
    "gray": ("#d0cfce", "#9b9b9a"),
    "black": ("#3f3f3f", "#000000"),
    "white": ("#ffffff",),
}
_MAIN_SHARE = 0.25
# Black counts as a color only if it covers at least this share of a pictogram. Otherwise, only the outline is black.
_BLACK_SHARE = 0.6


@lru_cache(maxsize=4096)
def render_pictogram(name: str, side: int) -> Image.Image:
    """Render a pictogram of the catalog.

    Args:
        name: Name in the catalog.
        side: Side of the image in pixels.

    Returns:
        An RGBA image. It is cached, so callers must not modify it.

    Raises:
        UserError: The extra ``emoji`` is not installed.
    """
    return render_svg(CATALOG[name].code, side)


def render_svg(code: str, side: int) -> Image.Image:
    """Render any pictogram of OpenMoji as an RGBA image.

    Args:
        code: Name of the pictogram's SVG file, without the extension.
        side: Side of the image in pixels.

    Raises:
        UserError: The extra ``emoji`` is not installed.
    """
    try:
        import resvg_py
    except ModuleNotFoundError as error:
        raise UserError("openmoji: resvg-py is not installed; run: pip install 'pocketdit[emoji]'") from error
    svg = (svg_folder() / f"{code}.svg").read_text(encoding="utf-8")
    png = resvg_py.svg_to_bytes(svg_string=svg, width=side, height=side, skip_system_fonts=True)
    return Image.open(io.BytesIO(png)).convert("RGBA")


def render_composition(composition: Composition, size: int) -> Image.Image:
    """Render a composition as a square RGB image of ``size`` pixels."""
    image = Image.new("RGBA", (size, size), (*BACKGROUNDS[composition.background], 255))
    for item in composition.items:
        pictogram = render_pictogram(item.name, max(1, round(item.side * size)))
        corner = (round(item.x * size - pictogram.width / 2), round(item.y * size - pictogram.height / 2))
        image.alpha_composite(pictogram, (max(0, corner[0]), max(0, corner[1])))
    return image.convert("RGB")


@lru_cache(maxsize=len(CATALOG))
def main_colors(name: str) -> tuple[str, ...]:
    """Return the names of a pictogram's main colors, starting with the most frequent color.

    A main color covers at least a quarter of the pictogram's area, not counting the black outline. If no color does,
    only the most frequent color is returned.
    """
    pixels = np.asarray(render_pictogram(name, 72), dtype=np.int64)
    colors = pixels[pixels[..., 3] > 200][:, :3]
    references = np.array([ImageColor.getrgb(code) for codes in _COLORS.values() for code in codes])
    nearest = np.argmin(((colors[:, None] - references) ** 2).sum(-1), axis=1)
    words = np.repeat(list(_COLORS), [len(codes) for codes in _COLORS.values()])
    counts = Counter(words[nearest].tolist())
    if counts["black"] < _BLACK_SHARE * len(nearest):
        del counts["black"]
    ranked = counts.most_common()
    return tuple(word for word, count in ranked if count >= _MAIN_SHARE * counts.total()) or (ranked[0][0],)
