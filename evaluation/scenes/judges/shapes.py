"""Which of the drawn shapes a mask is: correlation with the outlines that scenes are drawn from."""

import math
from collections.abc import Mapping
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from datamodules.scenes.render import OUTLINES

Floats = NDArray[np.float64]

UNCLEAR = "unclear"
MIN_CORRELATION = 0.87  # below it, people cannot name the shape either; drawn ones score above 0.95

_GRID, _HALF_WIDTH = 48, 1.25  # normalised masks: samples a side; half the side in units of sqrt(area)
_SHARPNESS = 100.0  # log odds of a whole correlation: 0.03 of it is a factor of 20
# An object at the least correlation gets 0.3, below which GenEval's protocol ignores a detection.
_DOUBT = MIN_CORRELATION + math.log(0.7 / 0.3) / _SHARPNESS


def shape_correlations(coverage: Floats) -> tuple[dict[str, float], tuple[float, float]]:
    """Of a mask (H, W) in [0, 1] with every shape, each at most 1; and the mask's centroid (x, y) in pixels."""
    normalised, center = _normalise(coverage)
    found = {
        shape: max(float(np.sum(normalised * template)) for template in templates)
        for shape, templates in _templates().items()
    }
    return found, center


def shape_probabilities(found: Mapping[str, float]) -> dict[str, float]:
    """From correlations: how likely each shape is; what is missing to 1 is that it is none of them."""
    weights = {shape: math.exp(_SHARPNESS * (value - _DOUBT)) for shape, value in found.items()}
    total = 1 + sum(weights.values())
    return {shape: weight / total for shape, weight in weights.items()}


@cache
def unit_area(shape: str) -> float:
    """Area of the outline of radius 1 (the shoelace formula)."""
    xs, ys = (np.array(side) for side in zip(*OUTLINES[shape], strict=True))
    return float(abs(np.sum(xs * np.roll(ys, -1) - ys * np.roll(xs, -1))) / 2)


def _normalise(coverage: Floats) -> tuple[Floats, tuple[float, float]]:
    """A mask (H, W) sampled about its centroid at unit area, with mean 0 and norm 1; and the centroid."""
    area = max(float(coverage.sum()), 1e-6)
    row, column = ndimage.center_of_mass(coverage)
    steps = np.linspace(-_HALF_WIDTH, _HALF_WIDTH, _GRID) * math.sqrt(area)
    places = np.meshgrid(row + steps, column + steps, indexing="ij")
    sampled = ndimage.map_coordinates(coverage, places, order=1)
    sampled = sampled - sampled.mean()
    norm = max(float(np.linalg.norm(sampled)), 1e-6)
    return sampled / norm, (float(column) + 0.5, float(row) + 0.5)


@cache
def _templates() -> dict[str, list[Floats]]:
    """Each outline crisp and softened, for generated pictures are softer than drawn ones."""
    radius, side = 40.0, 160
    templates: dict[str, list[Floats]] = {}
    for shape, outline in OUTLINES.items():
        canvas = Image.new("L", (side, side))
        ImageDraw.Draw(canvas).polygon([(side / 2 + radius * u, side / 2 + radius * v) for u, v in outline], fill=1)
        crisp = np.asarray(canvas, dtype=np.float64)
        templates[shape] = [_normalise(ndimage.gaussian_filter(crisp, radius * blur))[0] for blur in (0.02, 0.08, 0.15)]
    return templates
