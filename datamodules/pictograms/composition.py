"""Random compositions of one to three pictograms on a plain background, and their division into splits.

Lengths are fractions of the image's side, so a composition can be rendered at any size; x points right, y points down.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from datamodules.pictograms.catalog import CATALOG
from datamodules.shards.schema import Split

# The backgrounds are light and unsaturated, so that the pictograms' colors and black outlines stand out.
BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "white": (255, 255, 255),
    "yellow": (255, 243, 176),
    "blue": (190, 220, 250),
    "pink": (255, 208, 220),
    "green": (205, 236, 200),
    "gray": (200, 200, 204),
}
DEFAULT_BACKGROUND = "white"
RELATIONS = ("left of", "right of", "above", "below")
SIZES = {"small": (0.36, 0.44), "large": (0.78, 0.94)}  # range of the side of a single pictogram

_HELD_OUT_PERCENT = 8
_SIDE = (0.44, 0.48)  # range of the sides of pictograms in a composition of several pictograms
_JITTER = 0.01


@dataclass(frozen=True)
class Item:
    """A pictogram in a composition.

    Attributes:
        name: Name in the catalog.
        x: Horizontal position of the center.
        y: Vertical position of the center.
        side: Side of the square that contains the pictogram.
    """

    name: str
    x: float
    y: float
    side: float


@dataclass(frozen=True)
class Composition:
    """The exact content of an image. The squares of its pictograms never overlap and lie inside the image."""

    background: str
    items: tuple[Item, ...]

    def groups(self) -> list[list[Item]]:
        """Return the pictograms of each kind, in the order of their first appearance."""
        names = dict.fromkeys(item.name for item in self.items)
        return [[item for item in self.items if item.name == name] for name in names]


def random_composition(seed: int) -> Composition:
    """Return a random composition. The same seed produces the same composition on every machine.

    35% of compositions have one pictogram, 20% have two or three pictograms of the same kind, 30% have two different
    pictograms, and 15% have two pictograms of one kind and one of another. 55% of backgrounds are white. Half of the
    single pictograms are large and in the center; the others are small and in one of nine places.
    """
    rng = np.random.default_rng(seed)
    names = list(CATALOG)
    first, second = (names[int(i)] for i in rng.choice(len(names), 2, replace=False))
    others = [name for name in BACKGROUNDS if name != DEFAULT_BACKGROUND]
    background = DEFAULT_BACKGROUND if rng.random() < 0.55 else others[int(rng.integers(len(others)))]
    u = rng.random()
    if u < 0.35:
        return Composition(background, (_single(rng, first),))
    if u < 0.55:
        centers = _CENTERS_OF_COUNT[int(rng.integers(2, 4))]
        return Composition(background, _place(rng, [first] * len(centers), centers))
    if u < 0.85:
        centers = _turn([(0.25, 0.5), (0.75, 0.5)], int(rng.integers(4)))
        return Composition(background, _place(rng, [first, second], centers))
    centers = _turn([(0.25, 0.25), (0.25, 0.75), (0.75, 0.5)], int(rng.integers(4)))
    return Composition(background, _place(rng, [first, first, second], centers))


_CENTERS_OF_COUNT = {
    2: [(0.25, 0.5), (0.75, 0.5)],
    3: [(0.25, 0.25), (0.75, 0.25), (0.5, 0.75)],
}


def _single(rng: np.random.Generator, name: str) -> Item:
    if rng.random() < 0.5:
        return _jittered(rng, name, (0.5, 0.5), rng.uniform(*SIZES["large"]))
    row, column = (int(i) for i in rng.integers(3, size=2))
    return _jittered(rng, name, (0.22 + 0.28 * column, 0.22 + 0.28 * row), rng.uniform(*SIZES["small"]))


def _turn(centers: Sequence[tuple[float, float]], quarters: int) -> list[tuple[float, float]]:
    """Rotate positions around the image's center by a number of quarter turns."""
    turned = list(centers)
    for _ in range(quarters):
        turned = [(1 - y, x) for x, y in turned]
    return turned


def _place(rng: np.random.Generator, names: Sequence[str], centers: Sequence[tuple[float, float]]) -> tuple[Item, ...]:
    side = rng.uniform(*_SIDE)
    return tuple(_jittered(rng, *each, side) for each in zip(names, centers, strict=True))


def _jittered(rng: np.random.Generator, name: str, center: tuple[float, float], side: float) -> Item:
    x, y = (float(np.clip(value + rng.uniform(-_JITTER, _JITTER), side / 2, 1 - side / 2)) for value in center)
    return Item(name, round(x, 4), round(y, 4), round(float(side), 4))


def relation(first: Item, second: Item) -> str:
    """Return the relation of ``first`` to ``second``, one of ``RELATIONS``, along the axis with the larger distance."""
    dx, dy = first.x - second.x, first.y - second.y
    if abs(dx) > abs(dy):
        return "left of" if dx < 0 else "right of"
    return "above" if dy < 0 else "below"


def content(composition: Composition) -> str:
    """Return the part of a composition's content that determines its split.

    For pictograms of two kinds, this is the pair of kinds, regardless of order and number. For several pictograms of
    one kind, it is the kind and the count, and for a single pictogram, the kind and the background.
    """
    groups = composition.groups()
    if len(groups) == 2:
        return " and ".join(sorted(group[0].name for group in groups))
    [group] = groups
    return f"{len(group)} {group[0].name}" if len(group) > 1 else f"{group[0].name} on {composition.background}"


def split_of(composition: Composition) -> Split:
    """Return the split of a composition. Single pictograms on a white background are always in the training split."""
    text = content(composition)
    if len(composition.items) == 1 and composition.background == DEFAULT_BACKGROUND:
        return "train"
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return "validation" if int.from_bytes(digest, "big") % 100 < _HELD_OUT_PERCENT else "train"


def generate_compositions(split: Split, count: int, seed: int) -> Iterator[tuple[int, Composition]]:
    """Yield ``count`` compositions of a split, each preceded by its seed."""
    generated, number = 0, seed << 32
    while generated < count:
        composition = random_composition(number)
        if split_of(composition) == split:
            yield number, composition
            generated += 1
        number += 1
