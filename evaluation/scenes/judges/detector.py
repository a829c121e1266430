"""A rule-based detector of shape scenes, drawn or generated: no learning, so its answers can be checked by eye.

Background from the border, foreground by distance in CIE Lab, colours by the palette of the embedded data,
shapes by correlation with the outlines they are drawn from.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from datamodules.scenes.scene import COLORS
from evaluation.contract import Backend, Detection, ImageArray
from evaluation.scenes.judges.colors import (
    FOREGROUND,
    background_lab,
    color_inside,
    nearest_color,
    palette,
    smooth_lab,
)
from evaluation.scenes.judges.shapes import MIN_CORRELATION, UNCLEAR, shape_correlations, shape_probabilities

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

_SMALLEST_PART = 0.005  # of the picture's area; the smallest object drawn covers 0.014
_MARGIN = 4  # pixels kept around a part, for its soft edge
_ORTHOGONAL = ndimage.generate_binary_structure(2, 1)
_DISC = ndimage.iterate_structure(_ORTHOGONAL, 2)


@dataclass(frozen=True, eq=False)
class DetectedObject:
    """An object found.

    color: Lab (3). box: left, top, right, bottom in pixels, right and bottom exclusive. center: (x, y) of the mask's
    centroid in pixels. correlations: by shape, at most 1. mask: (H, W) of the whole picture.
    """

    color: Floats
    box: tuple[int, int, int, int]
    center: tuple[float, float]
    correlations: Mapping[str, float]
    mask: Mask

    @property
    def likeliest(self) -> str:
        """The shape that fits best, however badly."""
        return max(self.correlations, key=lambda shape: self.correlations[shape])

    @property
    def shape(self) -> str:
        """The shape, or ``UNCLEAR`` where none fits."""
        best = self.likeliest
        return best if self.correlations[best] >= MIN_CORRELATION else UNCLEAR

    @property
    def color_name(self) -> str:
        """The palette's nearest; a background's name is possible."""
        return palette()[0][int(nearest_color(self.color))]

    @property
    def area(self) -> int:
        """In pixels."""
        return int(self.mask.sum())


class SceneDetector:
    """Detections labelled with the shape that fits best; its probability, from the correlation, is the score.

    A part that people could not name scores under 0.3, the least that GenEval's protocol looks at, and a cleanly
    drawn object above the 0.9 that the protocol asks for when it counts.
    """

    backend = Backend("scene-rules", "1")

    def detect(self, picture: ImageArray) -> list[Detection]:
        return [
            Detection(
                item.likeliest,
                shape_probabilities(item.correlations)[item.likeliest],
                (float(item.box[0]), float(item.box[1]), float(item.box[2]), float(item.box[3])),
                item.mask,
            )
            for item in find_objects(picture)
        ]


def find_objects(picture: ImageArray) -> list[DetectedObject]:
    """The objects in a picture (H, W, 3), largest first. Parts under 0.5 % of the picture are ignored."""
    lab = smooth_lab(picture)
    background = background_lab(lab)
    foreground = np.sqrt(np.sum((lab - background) ** 2, axis=-1)) > FOREGROUND
    foreground = ndimage.binary_opening(ndimage.binary_fill_holes(foreground), _ORTHOGONAL)
    smallest = _SMALLEST_PART * foreground.size
    labels, _ = ndimage.label(foreground)
    found: list[DetectedObject] = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        top, left = max(rows.start - _MARGIN, 0), max(columns.start - _MARGIN, 0)
        crop = (slice(top, rows.stop + _MARGIN), slice(left, columns.stop + _MARGIN))
        part = labels[crop] == number
        if part.sum() < smallest:
            continue
        for piece in _by_color(lab[crop], part, smallest):
            if (item := _describe(lab, crop, background, piece, smallest)) is not None:
                found.append(item)
    return sorted(found, key=lambda item: -item.area)


def _parts(mask: Mask, smallest: float) -> list[Mask]:
    """Connected parts of at least ``smallest`` pixels."""
    labels, count = ndimage.label(mask)
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    return [labels == i for i in range(1, count + 1) if areas[i] >= smallest]


def _by_color(lab: Floats, part: Mask, smallest: float) -> list[Mask]:
    """Splits a part whose colours are each large enough to be an object; blended edges never are."""
    nearest = np.where(part, nearest_color(lab), -1)
    cores = [
        core for i in range(len(COLORS)) if (core := ndimage.binary_opening(nearest == i, _DISC)).sum() >= smallest
    ]
    if len(cores) < 2:
        return [part]
    owner = np.sum([(i + 1) * core for i, core in enumerate(cores)], axis=0)
    rows, columns = ndimage.distance_transform_edt(owner == 0, return_distances=False, return_indices=True)
    owner = np.where(part, owner[rows, columns], 0)
    return [piece for i in range(len(cores)) for piece in _parts(owner == i + 1, smallest)]


def _describe(
    lab: Floats, crop: tuple[slice, slice], background: Floats, piece: Mask, smallest: float
) -> DetectedObject | None:
    """``lab`` is the whole picture, ``piece`` a mask of its ``crop``."""
    inner = color_inside(lab[crop], piece)
    # Coverage of a pixel: where its colour lies on the way from the background to the object's own.
    span = inner - background
    around = ndimage.binary_dilation(piece, _ORTHOGONAL, iterations=2)
    coverage = np.clip((lab[crop] - background) @ span / max(float(span @ span), 1e-6), 0, 1) * around
    part = max(_parts(coverage > 0.5, 0), key=np.sum, default=piece)
    if part.sum() < smallest:
        return None
    coverage = coverage * ndimage.binary_dilation(part, _ORTHOGONAL, iterations=2)
    likeness, (x, y) = shape_correlations(coverage)
    mask = np.zeros(lab.shape[:2], dtype=np.bool_)
    mask[crop] = part
    rows, columns = np.nonzero(mask)
    box = (int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)
    return DetectedObject(inner, box, (x + crop[1].start, y + crop[0].start), likeness, mask)
