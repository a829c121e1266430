"""A rule-based judge of shape scenes, drawn or generated: no learning, so its answers can be checked by eye.

Background from the border, foreground by distance in CIE Lab, colours by the palette of the embedded data,
shapes by correlation with the outlines they are drawn from. The rules of ``judge`` follow GenEval
(Ghosh et al. 2023, arXiv 2310.11513): at least the asked number of each object, no more where "exclude" says
so, and relations by centres.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from datamodules.scenes.draw import OUTLINES
from datamodules.scenes.scene import BACKGROUNDS, COLORS

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

UNCLEAR = "unclear"

_SMOOTHING = 0.8  # pixels; against the noise of generated pictures
_FOREGROUND = 20.0  # Lab distance from the background; the palette's least is above 50
_SMALLEST_PART = 0.005  # of the picture's area; the smallest object drawn covers 0.014
_LEAST_CORRELATION = 0.87  # below it, people cannot name the shape either; drawn ones score above 0.95
_MARGIN = 4  # pixels kept around a part, for its soft edge
_GRID, _HALF_WIDTH = 48, 1.25  # normalised masks: samples a side; half the side in units of sqrt(area)
_ORTHOGONAL = ndimage.generate_binary_structure(2, 1)
_DISC = ndimage.iterate_structure(_ORTHOGONAL, 2)


@dataclass(frozen=True)
class Detection:
    """An object found. ``shape`` is ``UNCLEAR`` where no template fits; ``color`` may be a background's name.

    box: left, top, right, bottom in pixels, right and bottom exclusive. area: pixels. center: (x, y) of the
    mask's centroid in pixels. score: correlation with the best template, at most 1.
    """

    shape: str
    color: str
    box: tuple[int, int, int, int]
    area: int
    center: tuple[float, float]
    score: float


@dataclass(frozen=True)
class Verdict:
    """Whether a picture shows what was asked, the first reason why not, and what was seen."""

    correct: bool
    reason: str
    detections: tuple[Detection, ...]


def judge(image: NDArray[np.uint8], expectation: dict[str, Any]) -> Verdict:
    """Compares a picture (H, W, 3) with an expectation (see datamodules.scenes.expectation for its form)."""
    found = tuple(detect(image))
    reason = _shortcoming(found, expectation)
    return Verdict(reason is None, reason or "as asked", found)


def _shortcoming(found: Sequence[Detection], expectation: dict[str, Any]) -> str | None:
    groups = [_matching(found, asked) for asked in expectation["include"]]
    for asked, group in zip(expectation["include"], groups, strict=True):
        if len(group) < asked["count"]:
            return f"found {len(group)} {asked['color']} {asked['class']}, asked for {asked['count']}"
    for barred in expectation.get("exclude", ()):
        number, most = len(_matching(found, barred)), barred["count"] - 1
        if number > most:
            return f"found {number} {barred['color']} {barred['class']}, at most {most} allowed"
    for asked, group in zip(expectation["include"], groups, strict=True):
        if "position" in asked:
            relation, reference = asked["position"]
            if not any(relation in _relations(a, b) for a in group for b in groups[reference]):
                return f"{asked['color']} {asked['class']} is not {relation} the other object"
    return None


def _matching(found: Sequence[Detection], asked: dict[str, Any]) -> list[Detection]:
    return [item for item in found if (item.shape, item.color) == (asked["class"], asked["color"])]


def _relations(first: Detection, second: Detection) -> set[str]:
    """Relations of ``first`` to ``second``: as in GenEval, within 60 degrees of the axis."""
    dx, dy = first.center[0] - second.center[0], first.center[1] - second.center[1]
    half = 0.5 * math.hypot(dx, dy)
    holds = {"left of": dx < -half, "right of": dx > half, "above": dy < -half, "below": dy > half}
    return {relation for relation, true in holds.items() if true}


def detect(image: NDArray[np.uint8]) -> list[Detection]:
    """The objects in a picture (H, W, 3), largest first. Parts under 0.5 % of the picture are ignored."""
    lab = ndimage.gaussian_filter(_lab(image), (_SMOOTHING, _SMOOTHING, 0))
    background = _background(lab)
    foreground = np.sqrt(np.sum((lab - background) ** 2, axis=-1)) > _FOREGROUND
    foreground = ndimage.binary_opening(ndimage.binary_fill_holes(foreground), _ORTHOGONAL)
    smallest = _SMALLEST_PART * foreground.size
    labels, _ = ndimage.label(foreground)
    found: list[Detection] = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        top, left = max(rows.start - _MARGIN, 0), max(columns.start - _MARGIN, 0)
        crop = (slice(top, rows.stop + _MARGIN), slice(left, columns.stop + _MARGIN))
        part = labels[crop] == number
        if part.sum() < smallest:
            continue
        for piece in _by_color(lab[crop], part, smallest):
            if (item := _describe(lab[crop], background, piece, smallest)) is not None:
                found.append(_moved(item, left, top))
    return sorted(found, key=lambda item: -item.area)


def _moved(item: Detection, right: int, down: int) -> Detection:
    x0, y0, x1, y1 = item.box
    box = (x0 + right, y0 + down, x1 + right, y1 + down)
    return replace(item, box=box, center=(item.center[0] + right, item.center[1] + down))


def _lab(image: NDArray[np.uint8]) -> Floats:
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


def _background(lab: Floats) -> Floats:
    edge = 3
    border = (lab[:edge], lab[-edge:], lab[edge:-edge, :edge], lab[edge:-edge, -edge:])
    return np.median(np.concatenate([strip.reshape(-1, 3) for strip in border]), axis=0)


def _parts(mask: Mask, smallest: float) -> list[Mask]:
    """Connected parts of at least ``smallest`` pixels."""
    labels, count = ndimage.label(mask)
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    return [labels == i for i in range(1, count + 1) if areas[i] >= smallest]


@cache
def _palette() -> tuple[tuple[str, ...], Floats]:
    colors = {**COLORS, **BACKGROUNDS}
    return tuple(colors), _lab(np.array(list(colors.values()), dtype=np.uint8))


def _nearest_color(lab: Floats) -> NDArray[np.intp]:
    """Indices into the palette for colours (..., 3)."""
    return np.argmin(np.sum((lab[..., None, :] - _palette()[1]) ** 2, axis=-1), axis=-1)


def _by_color(lab: Floats, part: Mask, smallest: float) -> list[Mask]:
    """Splits a part whose colours are each large enough to be an object; blended edges never are."""
    nearest = np.where(part, _nearest_color(lab), -1)
    cores = [
        core for i in range(len(COLORS)) if (core := ndimage.binary_opening(nearest == i, _DISC)).sum() >= smallest
    ]
    if len(cores) < 2:
        return [part]
    owner = np.sum([(i + 1) * core for i, core in enumerate(cores)], axis=0)
    rows, columns = ndimage.distance_transform_edt(owner == 0, return_distances=False, return_indices=True)
    owner = np.where(part, owner[rows, columns], 0)
    return [piece for i in range(len(cores)) for piece in _parts(owner == i + 1, smallest)]


def _describe(lab: Floats, background: Floats, piece: Mask, smallest: float) -> Detection | None:
    depth = ndimage.distance_transform_edt(np.pad(piece, 1))[1:-1, 1:-1]
    inner = np.median(lab[depth >= 0.6 * depth.max()], axis=0)
    # Coverage of a pixel: where its colour lies on the way from the background to the object's own.
    span = inner - background
    around = ndimage.binary_dilation(piece, _ORTHOGONAL, iterations=2)
    coverage = np.clip((lab - background) @ span / max(float(span @ span), 1e-6), 0, 1) * around
    mask = max(_parts(coverage > 0.5, 0), key=np.sum, default=piece)
    if mask.sum() < smallest:
        return None
    coverage = coverage * ndimage.binary_dilation(mask, _ORTHOGONAL, iterations=2)
    shape, score, center = _shape(coverage)
    rows, columns = np.nonzero(mask)
    box = (int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)
    color = _palette()[0][int(_nearest_color(inner))]
    return Detection(shape, color, box, int(mask.sum()), center, score)


def _shape(coverage: Floats) -> tuple[str, float, tuple[float, float]]:
    """Best template, its correlation, and the centroid (x, y) in pixels."""
    normalised, center = _normalise(coverage)
    scores = {
        shape: max(float(np.sum(normalised * template)) for template in templates)
        for shape, templates in _templates().items()
    }
    best = max(scores, key=lambda shape: scores[shape])
    return best if scores[best] >= _LEAST_CORRELATION else UNCLEAR, scores[best], center


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
