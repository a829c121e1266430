"""Recognizes the shape of a mask by its correlation with the outlines from which scenes are rendered."""

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
MIN_CORRELATION = 0.87  # people cannot name shapes below this value either; rendered shapes are above 0.95

_GRID = 48  # samples per side of a normalized mask
_HALF_WIDTH = 1.25  # half the side of a normalized mask, in units of sqrt(area)
_SHARPNESS = 100.0  # log odds per unit of correlation: a difference of 0.03 changes the odds by a factor of 20
# Shapes at the minimum correlation get a probability of 0.3, below which GenEval's protocol ignores a detection.
_OFFSET = MIN_CORRELATION + math.log(0.7 / 0.3) / _SHARPNESS


def shape_correlations(coverage: Floats) -> tuple[dict[str, float], tuple[float, float]]:
    """Correlate a mask (H, W) with values in [0, 1] with every shape.

    Returns:
        The correlation with each shape, at most 1, and the mask's centroid (x, y) in pixels.
    """
    normalized, center = _normalize(coverage)
    correlations = {
        shape: max(float(np.sum(normalized * template)) for template in templates)
        for shape, templates in _templates().items()
    }
    return correlations, center


def shape_probabilities(correlations: Mapping[str, float]) -> dict[str, float]:
    """Return the probability of each shape. The remaining probability is assigned to all other shapes."""
    weights = {shape: math.exp(_SHARPNESS * (value - _OFFSET)) for shape, value in correlations.items()}
    total = 1 + sum(weights.values())
    return {shape: weight / total for shape, weight in weights.items()}


@cache
def unit_area(shape: str) -> float:
    """Return the area inside a shape's outline of radius 1 (shoelace formula)."""
    xs, ys = (np.array(side) for side in zip(*OUTLINES[shape], strict=True))
    return float(abs(np.sum(xs * np.roll(ys, -1) - ys * np.roll(xs, -1))) / 2)


def _normalize(coverage: Floats) -> tuple[Floats, tuple[float, float]]:
    """Scale a mask to unit area, normalize it to mean 0 and norm 1, and return it with its centroid (x, y)."""
    area = max(float(coverage.sum()), 1e-6)
    row, column = ndimage.center_of_mass(coverage)
    steps = np.linspace(-_HALF_WIDTH, _HALF_WIDTH, _GRID) * math.sqrt(area)
    positions = np.meshgrid(row + steps, column + steps, indexing="ij")
    sampled = ndimage.map_coordinates(coverage, positions, order=1)
    sampled = sampled - sampled.mean()
    norm = max(float(np.linalg.norm(sampled)), 1e-6)
    return sampled / norm, (float(column) + 0.5, float(row) + 0.5)


@cache
def _templates() -> dict[str, list[Floats]]:
    """Return each outline with several amounts of blur, because generated images are softer than rendered ones."""
    radius, side = 40.0, 160
    templates: dict[str, list[Floats]] = {}
    for shape, outline in OUTLINES.items():
        canvas = Image.new("L", (side, side))
        ImageDraw.Draw(canvas).polygon([(side / 2 + radius * u, side / 2 + radius * v) for u, v in outline], fill=1)
        crisp = np.asarray(canvas, dtype=np.float64)
        templates[shape] = [_normalize(ndimage.gaussian_filter(crisp, radius * blur))[0] for blur in (0.02, 0.08, 0.15)]
    return templates
