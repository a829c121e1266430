"""What a scene is, and how one is drawn by lot.

Lengths are pixels, x to the right and y down. An object's (x, y) is the centroid of its outline, and every
outline lies inside the circle of ``REACH * radius`` around it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from elastic_dit.errors import UserError

SHAPES = ("circle", "square", "triangle", "star", "cross")

# Hues far apart, and no lightness close to a background's: coarse chroma leaves the edges to the luma.
COLORS: dict[str, tuple[int, int, int]] = {
    "red": (222, 24, 36),
    "orange": (255, 140, 0),
    "yellow": (250, 222, 20),
    "green": (16, 140, 52),
    "blue": (24, 90, 232),
    "purple": (150, 35, 160),
    "pink": (255, 145, 200),
}
BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "white": (235, 235, 235),
    "grey": (145, 145, 145),
}
RADII: dict[str, tuple[float, float]] = {"small": (13.0, 16.0), "large": (21.0, 26.0)}  # in 128x128 pixels
PICTURE_SIZES = ((128, 128), (160, 96), (96, 160))  # (width, height)
PICTURE_SHARES = (0.5, 0.25, 0.25)
RELATIONS = ("left of", "right of", "above", "below")

REACH = 1.25
_SMALLEST_RADIUS = 10.0
_GAP = 4.0
_LOOSE = 0.3
_KINDS = tuple((shape, color) for shape in SHAPES for color in COLORS)


@dataclass(frozen=True)
class Object:
    """One shape: ``size`` is the word (small, large), ``radius`` its measure in pixels."""

    shape: str
    color: str
    size: str
    x: float
    y: float
    radius: float

    @property
    def kind(self) -> tuple[str, str]:
        """Shape and colour: what a caption names it by."""
        return self.shape, self.color


@dataclass(frozen=True)
class Scene:
    """A picture's content, exact. Objects never overlap and lie wholly inside."""

    width: int
    height: int
    background: str
    objects: tuple[Object, ...]


def clear_relation(first: Object, second: Object) -> str | None:
    """The relation of ``first`` to ``second`` (one of ``RELATIONS``), or None where people might disagree.

    Clear means within about 34 degrees of the axis and, along it, wholly past each other.
    """
    dx, dy = first.x - second.x, first.y - second.y
    along, across = max(abs(dx), abs(dy)), min(abs(dx), abs(dy))
    if along < first.radius + second.radius or along < 1.5 * across:
        return None
    if abs(dx) > abs(dy):
        return "left of" if dx < 0 else "right of"
    return "above" if dy < 0 else "below"


def random_scene(rng_seed: int, width: int | None = None, height: int | None = None) -> Scene:
    """The scene of this seed; the same on every call and machine.

    Of all scenes 40 % hold one object, 35 % two different ones, 15 % two to four of the same, 10 % three or
    four different ones. Without a size, one of ``PICTURE_SIZES`` (half of them square).

    Raises:
        UserError: only one of width and height is given, or they are no multiples of 32 of at least 96.
    """
    rng = np.random.default_rng(rng_seed)
    drawn_size = PICTURE_SIZES[int(rng.choice(len(PICTURE_SIZES), p=PICTURE_SHARES))]
    if width is None and height is None:
        width, height = drawn_size
    if width is None or height is None or min(width, height) < 96 or width % 32 or height % 32:
        raise UserError(f"scene size {width}x{height}: give both sides as multiples of 32, each at least 96")
    background = tuple(BACKGROUNDS)[int(rng.integers(len(BACKGROUNDS)))]
    kinds, relation = _draw_kinds(rng, width / (width + height))
    same = len(set(kinds)) == 1
    sizes = _draw_sizes(rng, len(kinds), same)
    objects = _place(rng, kinds, sizes, relation, width, height)
    return Scene(width, height, background, objects)


def _draw_kinds(rng: np.random.Generator, horizontal: float) -> tuple[list[tuple[str, str]], str | None]:
    """Kinds of the objects, and for most pairs the relation to place them in."""
    mix = rng.random()
    if mix < 0.40:
        return _different_kinds(rng, 1), None
    if mix < 0.75:
        relation = None
        if rng.random() < 0.75:
            relation = RELATIONS[int(rng.integers(2)) + (0 if rng.random() < horizontal else 2)]
        return _different_kinds(rng, 2), relation
    if mix < 0.90:
        return _different_kinds(rng, 1) * int(rng.choice((2, 3, 4), p=(0.4, 0.35, 0.25))), None
    return _different_kinds(rng, int(rng.integers(3, 5))), None


def _different_kinds(rng: np.random.Generator, count: int) -> list[tuple[str, str]]:
    return [_KINDS[int(i)] for i in rng.choice(len(_KINDS), size=count, replace=False)]


def _draw_sizes(rng: np.random.Generator, count: int, same: bool) -> list[str]:
    large = {1: 0.65, 2: 0.55}.get(count, 0.2)
    if same:
        return ["large" if rng.random() < large else "small"] * count
    return ["large" if rng.random() < large else "small" for _ in range(count)]


def _place(
    rng: np.random.Generator,
    kinds: Sequence[tuple[str, str]],
    sizes: Sequence[str],
    relation: str | None,
    width: int,
    height: int,
) -> tuple[Object, ...]:
    """Rejection sampling of places. A layout too tight for its sizes falls back to small objects only."""
    scale = math.sqrt(width * height) / 128
    for tries, attempt in ((64, sizes), *[(256, ["small"] * len(kinds))] * 8):
        low, high = np.array([RADII[size] for size in attempt]).T
        radii = np.maximum(_SMALLEST_RADIUS, scale * rng.uniform(low, high, (tries, len(kinds))))
        borders = (REACH * radii + 2)[..., None]
        composition = _compose(rng, (tries, len(kinds)), relation, width >= height)
        centers = borders + composition * ((width, height) - 2 * borders)
        for layout in np.flatnonzero(_apart(centers, radii)):
            x, y, radius = (np.round(v[layout], 2).tolist() for v in (*np.moveaxis(centers, -1, 0), radii))
            objects = tuple(Object(*kind, *rest) for kind, *rest in zip(kinds, attempt, x, y, radius, strict=True))
            if relation is None or clear_relation(objects[0], objects[1]) == relation:
                return objects
    raise UserError(f"no room for {len(kinds)} objects in {width}x{height}: give a larger picture")


def _compose(rng: np.random.Generator, shape: tuple[int, int], relation: str | None, wide: bool) -> NDArray[np.float64]:
    """Places in [0, 1]^2 of what the objects may cover, (tries, objects, 2), composed as photographs mostly are.

    One object stands near the middle, two beside each other or one above the other, more in the corners of a
    square; three layouts in ten are anywhere.
    """
    tries, count = shape
    if rng.random() < _LOOSE:
        return rng.random((tries, count, 2))
    if count == 1:
        anchors, spread = np.full((tries, 1, 2), 0.5), np.array([0.15, 0.15])
    elif count == 2:
        across = relation in ("left of", "right of") or (relation is None and wide)
        near, far = (0.1, 0.9) if relation in ("left of", "above") else (0.9, 0.1)
        pair = np.array([[near, 0.5], [far, 0.5]] if across else [[0.5, near], [0.5, far]])
        if relation is None:
            pair = rng.permutation(pair)
        anchors, spread = np.tile(pair, (tries, 1, 1)), np.array([0.08, 0.2] if across else [0.2, 0.08])
    else:
        corners = np.array([[0.1, 0.1], [0.9, 0.1], [0.1, 0.9], [0.9, 0.9]])
        anchors = np.stack([rng.permutation(corners)[:count] for _ in range(tries)])
        spread = np.array([0.08, 0.08])
    return np.clip(anchors + spread * rng.standard_normal(anchors.shape), 0, 1)


def _apart(centers: NDArray[np.float64], radii: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether all pairs keep their distance, (tries,); centers (tries, n, 2), radii (tries, n)."""
    first, second = np.triu_indices(radii.shape[1], 1)
    distance = np.linalg.norm(centers[:, first] - centers[:, second], axis=-1)
    return np.all(distance >= REACH * (radii[:, first] + radii[:, second]) + _GAP, axis=1)
