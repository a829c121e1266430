"""Detects the objects in rendered or generated scene images with rules that can be checked by eye.

The background is the color of the border, and the foreground consists of the pixels that differ from it in CIE Lab.
An object has the nearest color of the scenes' palette, and shapes are recognized by correlation with the scenes'
outlines.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from datamodules.scenes.scene import COLORS, SHAPES
from evaluation.contract import Backend, Detection, ImageArray
from evaluation.scenes.judges.colors import (
    FOREGROUND_DISTANCE,
    background_lab,
    color_inside,
    nearest_color,
    palette,
    smooth_lab,
)
from evaluation.scenes.judges.shapes import MIN_CORRELATION, UNCLEAR, shape_correlations, shape_probabilities

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

_MIN_AREA = 0.005  # fraction of the image's area; the smallest object of a scene covers 0.014
_MARGIN = 4  # pixels around a part that are kept for its soft edge
_CROSS = ndimage.generate_binary_structure(2, 1)
_DISC = ndimage.iterate_structure(_CROSS, 2)


@dataclass(frozen=True, eq=False)
class DetectedObject:
    """A detected object.

    Attributes:
        color: Lab value (3,).
        box: (left, top, right, bottom) in pixels, with right and bottom exclusive.
        center: Centroid (x, y) of the mask in pixels.
        correlations: Correlation with each shape's outline, at most 1.
        mask: Boolean mask (H, W) of the image.
    """

    color: Floats
    box: tuple[int, int, int, int]
    center: tuple[float, float]
    correlations: Mapping[str, float]
    mask: Mask

    @property
    def best_shape(self) -> str:
        """The best-fitting shape, even if the fit is poor."""
        return max(self.correlations, key=lambda shape: self.correlations[shape])

    @property
    def shape(self) -> str:
        """The best-fitting shape, or ``UNCLEAR`` if no shape fits."""
        return self.best_shape if self.correlations[self.best_shape] >= MIN_CORRELATION else UNCLEAR

    @property
    def color_name(self) -> str:
        """The nearest color of the palette. It can be a background color."""
        return palette()[0][int(nearest_color(self.color))]

    @property
    def area(self) -> int:
        """Area in pixels."""
        return int(self.mask.sum())


class SceneDetector:
    """Detects objects. The label is the best-fitting shape, and the score is its probability.

    Shapes that people cannot name score below 0.3, which is the threshold of GenEval's protocol. Cleanly rendered
    objects score above 0.9, which is the protocol's threshold for counting.
    """

    backend = Backend("scene-rules", "1")
    classes = SHAPES

    def detect(self, image: ImageArray) -> list[Detection]:
        """Return a detection for each object (see ``find_objects``)."""
        return [
            Detection(
                item.best_shape,
                shape_probabilities(item.correlations)[item.best_shape],
                (float(item.box[0]), float(item.box[1]), float(item.box[2]), float(item.box[3])),
                item.mask,
            )
            for item in find_objects(image)
        ]


def find_objects(image: ImageArray) -> list[DetectedObject]:
    """Return the objects of an image (H, W, 3), largest first, ignoring parts smaller than 0.5% of the image."""
    lab = smooth_lab(image)
    background = background_lab(lab)
    foreground = np.sqrt(np.sum((lab - background) ** 2, axis=-1)) > FOREGROUND_DISTANCE
    foreground = ndimage.binary_opening(ndimage.binary_fill_holes(foreground), _CROSS)
    min_area = _MIN_AREA * foreground.size
    labels, _ = ndimage.label(foreground)
    objects: list[DetectedObject] = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        top, left = max(rows.start - _MARGIN, 0), max(columns.start - _MARGIN, 0)
        crop = (slice(top, rows.stop + _MARGIN), slice(left, columns.stop + _MARGIN))
        part = labels[crop] == number
        if part.sum() < min_area:
            continue
        for piece in _split_by_color(lab[crop], part, min_area):
            if (item := _describe_piece(lab, crop, background, piece, min_area)) is not None:
                objects.append(item)
    return sorted(objects, key=lambda item: -item.area)


def _connected_parts(mask: Mask, min_area: float) -> list[Mask]:
    labels, count = ndimage.label(mask)
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    return [labels == i for i in range(1, count + 1) if areas[i] >= min_area]


def _split_by_color(lab: Floats, part: Mask, min_area: float) -> list[Mask]:
    """Split a part by color. Areas that are too small to be an object, such as blended edges, are ignored."""
    nearest = np.where(part, nearest_color(lab), -1)
    cores = [
        core for i in range(len(COLORS)) if (core := ndimage.binary_opening(nearest == i, _DISC)).sum() >= min_area
    ]
    if len(cores) < 2:
        return [part]
    owner = np.sum([(i + 1) * core for i, core in enumerate(cores)], axis=0)
    rows, columns = ndimage.distance_transform_edt(owner == 0, return_distances=False, return_indices=True)
    owner = np.where(part, owner[rows, columns], 0)
    return [piece for i in range(len(cores)) for piece in _connected_parts(owner == i + 1, min_area)]


def _describe_piece(
    lab: Floats, crop: tuple[slice, slice], background: Floats, piece: Mask, min_area: float
) -> DetectedObject | None:
    """Describe an object, or return None if it is too small.

    Args:
        lab: The whole image.
        crop: Region of the image that ``piece`` refers to.
        background: Lab value (3,) of the background.
        piece: Mask of the object in that region.
        min_area: Minimum area of an object in pixels.
    """
    inner_color = color_inside(lab[crop], piece)
    # A pixel's coverage is its position on the line from the background color to the object's color.
    span = inner_color - background
    near_piece = ndimage.binary_dilation(piece, _CROSS, iterations=2)
    coverage = np.clip((lab[crop] - background) @ span / max(float(span @ span), 1e-6), 0, 1) * near_piece
    part = max(_connected_parts(coverage > 0.5, 0), key=np.sum, default=piece)
    if part.sum() < min_area:
        return None
    coverage = coverage * ndimage.binary_dilation(part, _CROSS, iterations=2)
    correlations, (x, y) = shape_correlations(coverage)
    mask = np.zeros(lab.shape[:2], dtype=np.bool_)
    mask[crop] = part
    rows, columns = np.nonzero(mask)
    box = (int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)
    return DetectedObject(inner_color, box, (x + crop[1].start, y + crop[0].start), correlations, mask)
