"""What a scene is, and how one is drawn by lot.

Lengths are pixels, x to the right and y down. An object's (x, y) is the centroid of its outline, and every
outline lies inside the circle of ``REACH * radius`` around it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pocketdit.errors import UserError

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
SIZES: dict[str, tuple[float, float]] = {"small": (0.55, 0.65), "large": (0.82, 0.9)}  # shares of a cell's shorter side
IMAGE_SIZES = ((128, 128), (160, 96), (96, 160))  # (width, height)
IMAGE_SIZE_PROBABILITIES = (0.5, 0.25, 0.25)
RELATIONS = ("left of", "right of", "above", "below")

REACH = 1.25
_GAP = 4.0  # pixels between any two objects
_JITTER = 0.04  # of the picture's side
_USUAL = 0.7  # share of white backgrounds and of large objects, which a caption need not tell
_IN_THE_MIDDLE = 0.6  # share of single objects
_TURNED = 0.35  # share of pairs that do not stand as usual
_KINDS = tuple((shape, color) for shape in SHAPES for color in COLORS)
_AROUND = tuple((row, column) for row in range(3) for column in range(3) if (row, column) != (1, 1))


class Cell(NamedTuple):
    """A rectangle by its middle and its sides."""

    x: float
    y: float
    width: float
    height: float


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


def default_rows(count: int, width: int, height: int) -> tuple[int, ...]:
    """How many objects stand in each row, from the top, where a caption tells nothing else.

    One below the other in tall pictures, side by side in others, four two by two.
    """
    if count == 4:
        return (2, 2)
    if height > width:
        return (1,) * count
    return (1, 2) if count == 3 and height == width else (count,)


def random_scene(rng_seed: int, width: int | None = None, height: int | None = None) -> Scene:
    """The scene of this seed; the same on every call and machine.

    Of all scenes 40 % hold one object, 35 % two different ones, 15 % two to four of the same, 10 % three or
    four different ones. Objects stand in rows and are told from the first row's left to the last one's right.
    Pictures are composed as people compose them, and captions tell what departs from the usual: seven in ten
    backgrounds are white and seven in ten objects large; one object stands in the middle in six of ten, else in one
    of eight places around it; two of three pairs stand along the picture's longer side, the others across it.

    Without a size, one of ``PICTURE_SIZES`` (half of them square).

    Raises:
        UserError: only one of width and height is given, or they are no multiples of 32 of at least 96.
    """
    rng = np.random.default_rng(rng_seed)
    drawn_size = IMAGE_SIZES[int(rng.choice(len(IMAGE_SIZES), p=IMAGE_SIZE_PROBABILITIES))]
    if width is None and height is None:
        width, height = drawn_size
    if width is None or height is None or min(width, height) < 96 or width % 32 or height % 32:
        raise UserError(f"scene size {width}x{height}: give both sides as multiples of 32, each at least 96")
    usual, *others = BACKGROUNDS
    background = usual if rng.random() < _USUAL else others[int(rng.integers(len(others)))]
    kinds = _draw_kinds(rng)
    sizes = _draw_sizes(rng, kinds)
    cells = _draw_cells(rng, kinds, width, height)
    objects = [_stand(rng, *each, (width, height)) for each in zip(kinds, sizes, cells, strict=True)]
    return Scene(width, height, background, tuple(objects))


def _draw_kinds(rng: np.random.Generator) -> list[tuple[str, str]]:
    mix = rng.random()
    if mix < 0.40:
        return _different_kinds(rng, 1)
    if mix < 0.75:
        return _different_kinds(rng, 2)
    if mix < 0.90:
        return _different_kinds(rng, 1) * int(rng.choice((2, 3, 4), p=(0.4, 0.35, 0.25)))
    return _different_kinds(rng, int(rng.integers(3, 5)))


def _different_kinds(rng: np.random.Generator, count: int) -> list[tuple[str, str]]:
    return [_KINDS[int(i)] for i in rng.choice(len(_KINDS), size=count, replace=False)]


def _draw_sizes(rng: np.random.Generator, kinds: Sequence[tuple[str, str]]) -> list[str]:
    """One size for objects of one kind."""
    sizes = ["large" if rng.random() < _USUAL else "small" for _ in kinds]
    return sizes if len(set(kinds)) > 1 else [sizes[0]] * len(kinds)


def _draw_cells(rng: np.random.Generator, kinds: Sequence[tuple[str, str]], width: int, height: int) -> list[Cell]:
    """A rectangle of the picture for each object, none over another."""
    count = len(kinds)
    if count == 1:
        if rng.random() < _IN_THE_MIDDLE:
            return [Cell(width / 2, height / 2, 0.75 * width, 0.75 * height)]
        row, column = _AROUND[int(rng.integers(len(_AROUND)))]
        return [Cell(width * (1 + column) / 4, height * (1 + row) / 4, width / 2, height / 2)]
    rows = default_rows(count, width, height)
    if count == 2 and kinds[0] != kinds[1] and rng.random() < _TURNED:
        rows = (1, 1) if rows == (2,) else (2,)
    tall = height / len(rows)
    return [
        Cell(width * (column + 0.5) / number, tall * (row + 0.5), width / number, tall)
        for row, number in enumerate(rows)
        for column in range(number)
    ]


def _stand(rng: np.random.Generator, kind: tuple[str, str], size: str, cell: Cell, picture: tuple[int, int]) -> Object:
    """An object near the middle of its cell, wholly inside."""
    shortest = min(cell.width, cell.height)
    reach = rng.uniform(*SIZES[size]) * shortest / 2
    x, y = (
        middle + rng.uniform(-1, 1) * max(0.0, min(_JITTER * side, length / 2 - reach - _GAP / 2))
        for middle, length, side in zip((cell.x, cell.y), (cell.width, cell.height), picture, strict=True)
    )
    return Object(*kind, size, round(x, 2), round(y, 2), round(reach / REACH, 2))
