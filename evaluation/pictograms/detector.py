"""Finds pictograms in rendered or generated compositions, and recognizes them by comparison with OpenMoji.

The background is the color of the image's border. Each part of the foreground is scaled to a small square and compared
in CIE Lab with all pictograms of the catalog, which are placed on the same background.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from datamodules.pictograms.catalog import CATALOG
from datamodules.pictograms.render import render_pictogram
from evaluation.contract import Backend, Detection, ImageArray
from evaluation.scenes.judges.colors import background_lab, to_lab

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

_SIDE = 16  # side of a scaled part in pixels; fine details are not needed to tell pictograms apart
_FOREGROUND_DISTANCE = 12.0  # minimum Lab distance from the background
_MIN_AREA = 0.004  # minimum area of a part, as a fraction of the image's area
# Half the width of the largest gap that is bridged within a pictogram, as a fraction of the image's shorter side.
_BRIDGE = 0.012
_BLUR = 1.0  # standard deviation of the blur, in pixels of a scaled part
_ASPECT_WEIGHT = 20.0  # Lab distance that is added if the aspect ratios differ by a factor of e
_CLEAR = 24.0  # Lab distance at which people are as likely as not to recognize a pictogram
_SCALE = 3.0  # Lab distance; scale of the logistic curve from which scores are computed


class Templates(NamedTuple):
    """The pictograms of the catalog, cropped to their outlines and scaled to squares.

    Attributes:
        names: Names of the N pictograms.
        colors: RGB times alpha (N, side, side, 3), in [0, 255].
        alpha: Coverage (N, side, side, 1), in [0, 1].
        log_aspect: Logarithm (N,) of width / height before scaling.
    """

    names: tuple[str, ...]
    colors: Floats
    alpha: Floats
    log_aspect: Floats


@cache
def templates() -> Templates:
    """Return the templates of all pictograms of the catalog."""
    crops = [_crop_to_outline(render_pictogram(name, 128)) for name in CATALOG]
    scaled = np.stack([np.asarray(_scale(crop), dtype=np.float64) for crop in crops])
    aspects = np.array([crop.width / crop.height for crop in crops])
    alpha = scaled[..., 3:] / 255
    return Templates(tuple(CATALOG), scaled[..., :3] * alpha, alpha, np.log(aspects))


def _crop_to_outline(pictogram: Image.Image) -> Image.Image:
    box = pictogram.getchannel("A").point(lambda value: 255 * (value > 127)).getbbox()
    assert box is not None
    return pictogram.crop(box)


def _scale(image: Image.Image) -> Image.Image:
    return image.resize((_SIDE, _SIDE), Image.Resampling.BOX)


class PictogramDetector:
    """Detects pictograms. The label is the most similar pictogram, and the score decreases with the difference.

    Rendered pictograms score above 0.9, and parts that no pictogram resembles score below 0.3. These are the thresholds
    of GenEval's protocol for counting and for detection.
    """

    backend = Backend("pictogram-rules", "1")
    classes = tuple(CATALOG)

    def detect(self, image: ImageArray) -> list[Detection]:
        """Return a detection for each part of the foreground, the largest first."""
        lab = to_lab(image)
        background = background_lab(lab)
        foreground = np.sqrt(np.sum((lab - background) ** 2, axis=-1)) > _FOREGROUND_DISTANCE
        border_color = np.median(np.concatenate([image[:2].reshape(-1, 3), image[-2:].reshape(-1, 3)]), axis=0)
        detections = []
        for mask in _parts(foreground):
            label, distance = recognize(image, mask, border_color)
            rows, columns = np.nonzero(mask)
            box = (float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1))
            score = 1 / (1 + np.exp((distance - _CLEAR) / _SCALE))
            detections.append((int(mask.sum()), Detection(label, float(score), box, mask)))
        return [detection for _, detection in sorted(detections, key=lambda pair: -pair[0])]


def _parts(foreground: Mask) -> list[Mask]:
    """Divide the foreground (H, W) into pictograms, and drop small ones.

    Regions that are close together belong to one pictogram. A region whose box lies mostly inside the box of a larger
    region belongs to the same pictogram as the larger region, as in faces without an outline.
    """
    reach = max(1, round(_BRIDGE * min(foreground.shape)))
    labels, _ = ndimage.label(ndimage.binary_dilation(foreground, iterations=reach))
    boxes = ndimage.find_objects(labels)
    largest_first = sorted(range(len(boxes)), key=lambda i: -_area(boxes[i]))
    parts: list[tuple[tuple[slice, slice], Mask]] = []
    for i in largest_first:
        region = (labels == i + 1) & foreground
        owner = next((part for box, part in parts if _area(_shared(box, boxes[i])) > _area(boxes[i]) / 2), None)
        if owner is None:
            parts.append((boxes[i], region))
        else:
            owner |= region
    return [part for _, part in parts if part.sum() >= _MIN_AREA * foreground.size]


def _area(box: tuple[slice, slice]) -> int:
    return int(np.prod([max(0, side.stop - side.start) for side in box]))


def _shared(first: tuple[slice, slice], second: tuple[slice, slice]) -> tuple[slice, slice]:
    rows, columns = (slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(first, second, strict=True))
    return rows, columns


def recognize(image: ImageArray, mask: Mask, background: Floats) -> tuple[str, float]:
    """Return the pictogram that is most similar to a part of an image.

    Args:
        image: Image (H, W, 3).
        mask: The part (H, W).
        background: Color (3,) of the background, in [0, 255].

    Returns:
        The name of the pictogram and its distance from the part, which is the root mean square of the Lab differences
        plus a penalty for a different aspect ratio.
    """
    rows, columns = np.nonzero(mask)
    top, bottom, left, right = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
    near = ndimage.binary_dilation(ndimage.binary_fill_holes(mask), iterations=2)[top:bottom, left:right, None]
    crop = np.where(near, image[top:bottom, left:right], background).round().astype(np.uint8)
    part = _soften(np.asarray(_scale(Image.fromarray(crop))))
    known = templates()
    candidates = known.colors + (1 - known.alpha) * background
    differences = np.sum((_soften(candidates.round().astype(np.uint8)) - part) ** 2, axis=-1)
    aspect = np.abs(known.log_aspect - np.log((right - left) / (bottom - top)))
    distances = np.sqrt(differences.mean(axis=(1, 2))) + _ASPECT_WEIGHT * aspect
    best = int(np.argmin(distances))
    return known.names[best], float(distances[best])


def _soften(colors: NDArray[np.uint8]) -> Floats:
    """Convert sRGB (..., side, side, 3) to Lab and blur it, so that lines a fraction of a pixel apart match."""
    lab: Floats = ndimage.gaussian_filter(to_lab(colors), (*(0,) * (colors.ndim - 3), _BLUR, _BLUR, 0))
    return lab
