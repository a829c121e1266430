"""Recognizes the sizes and places of objects from their areas and centers in pixels.

The size of an object is relative to its cell (see ``datamodules.scenes.scene``), so the rows of objects must first be
inferred from the image.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from datamodules.scenes.phrases import PLACES
from datamodules.scenes.scene import REACH, SIZES
from evaluation.scenes.judges.shapes import unit_area

Center = tuple[float, float]

_SAME_ROW = 0.16  # fraction of the height; rows are at least 0.25 apart, and a row's objects differ by at most 0.08
_CENTERED = 1 / 8  # fraction of a side; a single object is either centered or at least a quarter of a side off center
# Side of a single object's cell as a fraction of the image's side. The key is whether the object is centered.
_SINGLE_CELL_SIDE = {True: 0.75, False: 0.5}
_SIZE_THRESHOLD = (SIZES["small"][1] + SIZES["large"][0]) / 2
_SIZE_SCALE = 0.02  # fraction of the cell's side; scale of the logistic curve between small and large
_PLACE_SCALE = 0.01  # fraction of the image's side; scale of the logistic curve between neighboring thirds


def shorter_sides(centers: Sequence[Center], width: int, height: int) -> list[float]:
    """Return the shorter side in pixels of each object's cell, inferred from the centers of all objects."""
    if len(centers) == 1:
        ((x, y),) = centers
        is_centered = abs(x - width / 2) < _CENTERED * width and abs(y - height / 2) < _CENTERED * height
        return [_SINGLE_CELL_SIDE[is_centered] * min(width, height)]
    rows = _group_rows(centers, height)
    row_height = height / max(len(rows), 1)
    objects_in_row = {i: len(row) for row in rows for i in row}
    return [min(width / objects_in_row[i], row_height) for i in range(len(centers))]


def _group_rows(centers: Sequence[Center], height: int) -> list[list[int]]:
    rows: list[list[int]] = []
    order = sorted(range(len(centers)), key=lambda i: centers[i][1])
    for previous, i in zip([None, *order], order, strict=False):
        if previous is not None and centers[i][1] - centers[previous][1] < _SAME_ROW * height:
            rows[-1].append(i)
        else:
            rows.append([i])
    return rows


def large_probability(shape: str, area: float, shorter_side: float) -> float:
    """Return the probability that an object is large rather than small.

    Args:
        shape: The object's shape.
        area: The object's area in pixels.
        shorter_side: The shorter side of the object's cell in pixels.
    """
    relative_size = 2 * REACH * math.sqrt(area / unit_area(shape)) / shorter_side
    return _logistic((relative_size - _SIZE_THRESHOLD) / _SIZE_SCALE)


def place_probabilities(center: Center, width: int, height: int) -> dict[str, float]:
    """Return the probability of each place in ``PLACES`` for an object's center."""
    x, y = center
    horizontal, vertical = _thirds(x / width), _thirds(y / height)
    return {PLACES[row][column]: float(vertical[row] * horizontal[column]) for row in range(3) for column in range(3)}


def _thirds(position: float) -> NDArray[np.float64]:
    beyond = [_logistic((position - edge) / _PLACE_SCALE) for edge in (1 / 3, 2 / 3)]
    return np.array([1 - beyond[0], beyond[0] - beyond[1], beyond[1]])


def _logistic(value: float) -> float:
    return 0.5 * (1 + math.tanh(value / 2))
