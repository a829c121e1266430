"""Names the colors in scene images by distance in CIE Lab."""

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from datamodules.scenes.scene import BACKGROUNDS, COLORS
from evaluation.contract import Backend, Detection, ImageArray

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

FOREGROUND_DISTANCE = 20.0  # minimum Lab distance from the background; object colors are more than 50 away from it
_SMOOTHING = 0.8  # standard deviation, in pixels, of a blur that reduces the noise of generated images
_SPREAD = 12.0  # standard deviation of a color in Lab; about a quarter of the smallest distance between object colors
_INNER_DEPTH = 0.6  # minimum depth of the inner part of a mask, relative to its maximum; excludes the blended edge


def smooth_lab(image: ImageArray) -> Floats:
    """Convert an image (H, W, 3) to Lab and blur it slightly."""
    lab: Floats = ndimage.gaussian_filter(to_lab(image), (_SMOOTHING, _SMOOTHING, 0))
    return lab


def to_lab(image: NDArray[np.uint8]) -> Floats:
    """Convert sRGB (..., 3) uint8 to CIE Lab with white point D65 (IEC 61966-2-1, CIE 15)."""
    rgb = np.asarray(image, dtype=np.float64) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array(
        [
            [0.4124564, 0.3575761, 0.1804375],
            [0.2126729, 0.7151522, 0.0721750],
            [0.0193339, 0.1191920, 0.9503041],
        ]
    )
    xyz = linear @ to_xyz.T / np.array([0.95047, 1.0, 1.08883])
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def background_lab(lab: Floats) -> Floats:
    """Return the median color (3,) of the image's border."""
    edge = 3
    border = (lab[:edge], lab[-edge:], lab[edge:-edge, :edge], lab[edge:-edge, -edge:])
    median: Floats = np.median(np.concatenate([strip.reshape(-1, 3) for strip in border]), axis=0)
    return median


@cache
def palette() -> tuple[tuple[str, ...], Floats]:
    """Return the names of the object colors and the background colors, in this order, and their Lab values (N, 3)."""
    colors = {**COLORS, **BACKGROUNDS}
    return tuple(colors), to_lab(np.array(list(colors.values()), dtype=np.uint8))


def nearest_color(lab: Floats) -> NDArray[np.intp]:
    """Return the indices (...) of the palette colors that are nearest to Lab values (..., 3)."""
    nearest: NDArray[np.intp] = np.argmin(np.sum((lab[..., None, :] - palette()[1]) ** 2, axis=-1), axis=-1)
    return nearest


def color_probabilities(lab: Floats) -> dict[str, float]:
    """Return the probability of each color of the palette, given a Lab value (3,)."""
    names, values = palette()
    logits = -np.sum((lab - values) ** 2, axis=-1) / (2 * _SPREAD**2)
    weights = np.exp(logits - logits.max())
    return dict(zip(names, (weights / weights.sum()).tolist(), strict=True))


def color_inside(lab: Floats, mask: Mask) -> Floats:
    """Return the median color (3,) of the inner part of a non-empty mask (H, W)."""
    depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    median: Floats = np.median(lab[depth >= _INNER_DEPTH * depth.max()], axis=0)
    return median


class SceneColorReader:
    """Names the color of each detection: the nearest color among the object and background colors.

    The color is read inside the detection's mask. Without a mask, it is read in the part of the box that differs from
    the image's border.
    """

    backend = Backend("scene-rules", "1")

    def colors(self, image: ImageArray, detections: Sequence[Detection]) -> list[str]:
        """Return a palette color for each detection."""
        lab = smooth_lab(image)
        masks = [_detection_mask(lab, detection) for detection in detections]
        return [palette()[0][int(nearest_color(color_inside(lab, mask)))] for mask in masks]


def _detection_mask(lab: Floats, detection: Detection) -> Mask:
    if detection.mask is not None and detection.mask.any():
        return detection.mask
    left, top, right, bottom = (max(0, round(side)) for side in detection.box)
    left, top = min(left, lab.shape[1] - 1), min(top, lab.shape[0] - 1)
    box = np.zeros(lab.shape[:2], dtype=np.bool_)
    box[top : max(bottom, top + 1), left : max(right, left + 1)] = True
    foreground = box & (np.linalg.norm(lab - background_lab(lab), axis=-1) > FOREGROUND_DISTANCE)
    return foreground if foreground.any() else box
