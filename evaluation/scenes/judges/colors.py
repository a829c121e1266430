"""The colours of drawn scenes, told in CIE Lab."""

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from datamodules.scenes.scene import BACKGROUNDS, COLORS
from evaluation.contract import Backend, Detection, ImageArray

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

FOREGROUND = 20.0  # Lab distance from the background; the palette's least is above 50
_SMOOTHING = 0.8  # pixels; against the noise of generated pictures
_SPREAD = 12.0  # Lab distance at which a colour is still likely meant; a quarter of the palette's least
_INSIDE = 0.6  # of a mask's greatest depth: away from the blended edge


def smooth_lab(image: ImageArray) -> Floats:
    """A picture (H, W, 3) in Lab, slightly blurred."""
    lab: Floats = ndimage.gaussian_filter(to_lab(image), (_SMOOTHING, _SMOOTHING, 0))
    return lab


def to_lab(image: NDArray[np.uint8]) -> Floats:
    """sRGB (..., 3) uint8 to CIE Lab, white point D65 (IEC 61966-2-1, CIE 15)."""
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
    """Median (3) of the picture's border."""
    edge = 3
    border = (lab[:edge], lab[-edge:], lab[edge:-edge, :edge], lab[edge:-edge, -edge:])
    median: Floats = np.median(np.concatenate([strip.reshape(-1, 3) for strip in border]), axis=0)
    return median


@cache
def palette() -> tuple[tuple[str, ...], Floats]:
    """Names of the objects' and then the backgrounds' colours, and their Lab values (N, 3)."""
    colors = {**COLORS, **BACKGROUNDS}
    return tuple(colors), to_lab(np.array(list(colors.values()), dtype=np.uint8))


def nearest_color(lab: Floats) -> NDArray[np.intp]:
    """Indices into the palette for colours (..., 3)."""
    nearest: NDArray[np.intp] = np.argmin(np.sum((lab[..., None, :] - palette()[1]) ** 2, axis=-1), axis=-1)
    return nearest


def color_probabilities(lab: Floats) -> dict[str, float]:
    """How likely each name of the palette is meant by a colour (3); they sum to 1."""
    names, values = palette()
    logits = -np.sum((lab - values) ** 2, axis=-1) / (2 * _SPREAD**2)
    weights = np.exp(logits - logits.max())
    return dict(zip(names, (weights / weights.sum()).tolist(), strict=True))


def color_inside(lab: Floats, mask: Mask) -> Floats:
    """Median colour (3) of a mask's (H, W) inner part; the mask must not be empty."""
    depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    median: Floats = np.median(lab[depth >= _INSIDE * depth.max()], axis=0)
    return median


class SceneColorReader:
    """Names each detection's colour by the nearest of the scenes' palette; a background's name is possible.

    Inside the detection's mask, or inside its box where it has none and the picture differs from its border there.
    """

    backend = Backend("scene-rules", "1")

    def colors(self, picture: ImageArray, detections: Sequence[Detection]) -> list[str]:
        lab = smooth_lab(picture)
        return [palette()[0][int(nearest_color(color_inside(lab, _mask(lab, item))))] for item in detections]


def _mask(lab: Floats, item: Detection) -> Mask:
    if item.mask is not None and item.mask.any():
        return item.mask
    left, top, right, bottom = (max(0, round(side)) for side in item.box)
    left, top = min(left, lab.shape[1] - 1), min(top, lab.shape[0] - 1)
    inside = np.zeros(lab.shape[:2], dtype=np.bool_)
    inside[top : max(bottom, top + 1), left : max(right, left + 1)] = True
    seen = inside & (np.linalg.norm(lab - background_lab(lab), axis=-1) > FOREGROUND)
    return seen if seen.any() else inside
