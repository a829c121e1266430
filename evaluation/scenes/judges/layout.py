"""Where objects stand, and how large they are for it: what the words of scenes mean in pixels.

A scene's size word is a share of the rectangle that the object has to itself (datamodules.scenes.scene), so that the
rows have to be read off the picture first.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from datamodules.scenes.phrases import PLACES
from datamodules.scenes.scene import REACH, SIZES
from evaluation.scenes.judges.shapes import unit_area

Center = tuple[float, float]

_SAME_ROW = 0.16  # of the height: rows are at least 0.25 of it apart, and a row's objects within 0.08
_MIDDLE = 1 / 8  # of a side: a single object stands in the middle or at least a quarter away
_ALONE = {True: 0.75, False: 0.5}  # sides of a single object's rectangle, in the middle and elsewhere
_SIZE_EDGE = (SIZES["small"][1] + SIZES["large"][0]) / 2
_SIZE_DOUBT = 0.02  # of the rectangle's side: scale of the logistic curve between small and large
_PLACE_DOUBT = 0.01  # of the picture's side: likewise at the edge between two thirds


def shorter_sides(centers: Sequence[Center], width: int, height: int) -> list[float]:
    """The shorter side in pixels of the rectangle that each object stands in, by all objects' centres."""
    if len(centers) == 1:
        ((x, y),) = centers
        middle = abs(x - width / 2) < _MIDDLE * width and abs(y - height / 2) < _MIDDLE * height
        return [_ALONE[middle] * min(width, height)]
    rows = _rows(centers, height)
    tall = height / max(len(rows), 1)
    number = {i: len(row) for row in rows for i in row}
    return [min(width / number[i], tall) for i in range(len(centers))]


def _rows(centers: Sequence[Center], height: int) -> list[list[int]]:
    rows: list[list[int]] = []
    order = sorted(range(len(centers)), key=lambda i: centers[i][1])
    for before, i in zip([None, *order], order, strict=False):
        if before is not None and centers[i][1] - centers[before][1] < _SAME_ROW * height:
            rows[-1].append(i)
        else:
            rows.append([i])
    return rows


def large_probability(shape: str, area: float, shorter_side: float) -> float:
    """That an object of this area (pixels) is a large one in its rectangle; small is what is left to 1."""
    share = 2 * REACH * math.sqrt(area / unit_area(shape)) / shorter_side
    return _logistic((share - _SIZE_EDGE) / _SIZE_DOUBT)


def place_probabilities(center: Center, width: int, height: int) -> dict[str, float]:
    """That a centre lies in each of the ninths of the picture, by the words of captions."""
    x, y = center
    across, down = _thirds(x / width), _thirds(y / height)
    return {PLACES[row][column]: float(down[row] * across[column]) for row in range(3) for column in range(3)}


def _thirds(share: float) -> NDArray[np.float64]:
    past = [_logistic((share - edge) / _PLACE_DOUBT) for edge in (1 / 3, 2 / 3)]
    return np.array([1 - past[0], past[0] - past[1], past[1]])


def _logistic(value: float) -> float:
    return 0.5 * (1 + math.tanh(value / 2))
