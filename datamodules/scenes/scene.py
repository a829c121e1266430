"""Scenes of colored shapes, and a generator of random scenes.

Lengths are in pixels; x points right, and y points down. An object's (x, y) is the centroid of its outline. Every
outline lies inside a circle with radius ``REACH * radius`` around the centroid.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pocketdit.errors import UserError

SHAPES = ("circle", "square", "triangle", "star", "cross")

# The hues are far apart, and each color differs in lightness from the backgrounds. Edges therefore remain visible even
# if chroma is stored at a lower resolution.
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
DEFAULT_BACKGROUND = "white"
SIZES: dict[str, tuple[float, float]] = {
    "small": (0.55, 0.65),
    "large": (0.82, 0.9),
}  # fractions of a cell's shorter side
IMAGE_SIZES = ((128, 128), (160, 96), (96, 160))  # (width, height)
IMAGE_SIZE_PROBABILITIES = (0.5, 0.25, 0.25)
RELATIONS = ("left of", "right of", "above", "below")

REACH = 1.25
_GAP = 4.0  # minimum number of pixels between any two objects
_JITTER = 0.04  # largest random shift of an object, as a fraction of the image's side
_DEFAULT_PROBABILITY = 0.7  # probability of a white background, and of a large object
_CENTERED_PROBABILITY = 0.6  # probability that a single object is in the center
_TURNED_PROBABILITY = 0.35  # probability that two different objects are not arranged in the default rows
_KINDS = tuple((shape, color) for shape in SHAPES for color in COLORS)
_OFF_CENTER = tuple((row, column) for row in range(3) for column in range(3) if (row, column) != (1, 1))


class Cell(NamedTuple):
    """A rectangle, described by its center and the lengths of its sides."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Object:
    """A shape in a scene.

    Attributes:
        shape: One of ``SHAPES``.
        color: One of ``COLORS``.
        size: "small" or "large", relative to the object's cell.
        x: Horizontal position of the centroid.
        y: Vertical position of the centroid.
        radius: Scale of the outline.
    """

    shape: str
    color: str
    size: str
    x: float
    y: float
    radius: float

    @property
    def kind(self) -> tuple[str, str]:
        """The shape and color that captions use to refer to the object."""
        return self.shape, self.color


@dataclass(frozen=True)
class Scene:
    """The exact content of an image. Objects never overlap and lie entirely inside the image."""

    width: int
    height: int
    background: str
    objects: tuple[Object, ...]


def clear_relation(first: Object, second: Object) -> str | None:
    """Return the relation of ``first`` to ``second`` (one of ``RELATIONS``), or None if people might disagree.

    A relation is clear if its direction is within about 34 degrees of an axis and the objects do not overlap along
    that axis.
    """
    dx, dy = first.x - second.x, first.y - second.y
    along, across = max(abs(dx), abs(dy)), min(abs(dx), abs(dy))
    if along < first.radius + second.radius or along < 1.5 * across:
        return None
    if abs(dx) > abs(dy):
        return "left of" if dx < 0 else "right of"
    return "above" if dy < 0 else "below"


def default_rows(count: int, width: int, height: int) -> tuple[int, ...]:
    """Return the default number of objects in each row, from top to bottom.

    Objects are stacked in tall images and placed side by side in others, with two exceptions: four objects form a 2x2
    grid, and in square images, three objects form a row of one above a row of two.
    """
    if count == 4:
        return (2, 2)
    if height > width:
        return (1,) * count
    return (1, 2) if count == 3 and height == width else (count,)


def random_scene(rng_seed: int, width: int | None = None, height: int | None = None) -> Scene:
    """Return a random scene. The same seed produces the same scene on every machine.

    40% of scenes have one object, 35% have two different objects, 15% have two to four objects of the same kind, and
    10% have three or four different objects. Objects are arranged in rows and listed in reading order.

    Most attributes have a default, and captions mention deviations from it. 70% of backgrounds are white, and 70% of
    objects are large. A single object is in the center with probability 0.6 and otherwise in one of the eight places
    around it. Of the pairs of different objects, 65% are arranged in the default rows.

    Args:
        rng_seed: Seed of the scene.
        width: Width of the image. If neither side is passed, one of ``IMAGE_SIZES`` is drawn; half of the images are
            square.
        height: Height of the image.

    Raises:
        UserError: Only one side is passed, or a side is less than 96 or not a multiple of 32.
    """
    rng = np.random.default_rng(rng_seed)
    random_size = IMAGE_SIZES[int(rng.choice(len(IMAGE_SIZES), p=IMAGE_SIZE_PROBABILITIES))]
    if width is None and height is None:
        width, height = random_size
    if width is None or height is None or min(width, height) < 96 or width % 32 or height % 32:
        raise UserError(f"scene size {width}x{height}: both sides must be multiples of 32 and at least 96")
    others = [background for background in BACKGROUNDS if background != DEFAULT_BACKGROUND]
    is_default = rng.random() < _DEFAULT_PROBABILITY
    background = DEFAULT_BACKGROUND if is_default else others[int(rng.integers(len(others)))]
    kinds = _draw_kinds(rng)
    sizes = _draw_sizes(rng, kinds)
    cells = _draw_cells(rng, kinds, width, height)
    objects = [_draw_object(rng, *each, (width, height)) for each in zip(kinds, sizes, cells, strict=True)]
    return Scene(width, height, background, tuple(objects))


def _draw_kinds(rng: np.random.Generator) -> list[tuple[str, str]]:
    u = rng.random()
    if u < 0.40:
        return _draw_different_kinds(rng, 1)
    if u < 0.75:
        return _draw_different_kinds(rng, 2)
    if u < 0.90:
        return _draw_different_kinds(rng, 1) * int(rng.choice((2, 3, 4), p=(0.4, 0.35, 0.25)))
    return _draw_different_kinds(rng, int(rng.integers(3, 5)))


def _draw_different_kinds(rng: np.random.Generator, count: int) -> list[tuple[str, str]]:
    return [_KINDS[int(i)] for i in rng.choice(len(_KINDS), size=count, replace=False)]


def _draw_sizes(rng: np.random.Generator, kinds: Sequence[tuple[str, str]]) -> list[str]:
    """Draw a size for each object. Objects of the same kind have the same size."""
    sizes = ["large" if rng.random() < _DEFAULT_PROBABILITY else "small" for _ in kinds]
    return sizes if len(set(kinds)) > 1 else [sizes[0]] * len(kinds)


def _draw_cells(rng: np.random.Generator, kinds: Sequence[tuple[str, str]], width: int, height: int) -> list[Cell]:
    """Draw disjoint rectangles in the image, one per object."""
    count = len(kinds)
    if count == 1:
        if rng.random() < _CENTERED_PROBABILITY:
            return [Cell(width / 2, height / 2, 0.75 * width, 0.75 * height)]
        row, column = _OFF_CENTER[int(rng.integers(len(_OFF_CENTER)))]
        return [Cell(width * (1 + column) / 4, height * (1 + row) / 4, width / 2, height / 2)]
    rows = default_rows(count, width, height)
    if count == 2 and kinds[0] != kinds[1] and rng.random() < _TURNED_PROBABILITY:
        rows = (1, 1) if rows == (2,) else (2,)
    row_height = height / len(rows)
    return [
        Cell(width * (column + 0.5) / number, row_height * (row + 0.5), width / number, row_height)
        for row, number in enumerate(rows)
        for column in range(number)
    ]


def _draw_object(
    rng: np.random.Generator, kind: tuple[str, str], size: str, cell: Cell, image_size: tuple[int, int]
) -> Object:
    """Return an object of random size at a random position near the center of its cell, entirely inside the cell."""
    shortest = min(cell.width, cell.height)
    reach = rng.uniform(*SIZES[size]) * shortest / 2
    x, y = (
        center + rng.uniform(-1, 1) * max(0.0, min(_JITTER * side, length / 2 - reach - _GAP / 2))
        for center, length, side in zip((cell.x, cell.y), (cell.width, cell.height), image_size, strict=True)
    )
    return Object(*kind, size, round(x, 2), round(y, 2), round(reach / REACH, 2))
