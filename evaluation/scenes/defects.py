"""Scenes with one thing wrong: what a judge has to notice."""

from dataclasses import replace
from typing import Literal, assert_never, get_args

import numpy as np

from datamodules.scenes.scene import BACKGROUNDS, COLORS, REACH, SHAPES, SIZES, Object, Scene
from evaluation.scenes.judges.layout import shorter_sides

Defect = Literal["color", "shape", "size", "count", "position", "background"]
DEFECTS: tuple[Defect, ...] = get_args(Defect)

_GAP = 4.0  # pixels between objects, and half of it to the border
_EXTRA = 10.0  # pixels: radius of an object too many
_TRIES = 200
_RESIZE = sum(SIZES["large"]) / sum(SIZES["small"])


def add_defect(scene: Scene, broken: Defect, seed: int) -> Scene | None:
    """The scene with one attribute changed and all else as it was; always the same for the same seed.

    color, shape, size: of one object. count: an object less, or one more of the same kind (small, in a free place).
    position: two objects of different kinds change places, a little smaller where the other had less room; a single
    object or a group of equal ones stands elsewhere. None where there is no such change: four equal objects stand two
    by two whichever way, and an empty scene has nothing to change but its background.
    """
    rng = np.random.default_rng((seed, DEFECTS.index(broken)))
    if broken == "background":
        return replace(scene, background=_other(rng, tuple(BACKGROUNDS), scene.background))
    if not scene.objects:
        return None
    index = int(rng.integers(len(scene.objects)))
    item = scene.objects[index]
    match broken:
        case "color":
            return _with(scene, index, replace(item, color=_other(rng, tuple(COLORS), item.color)))
        case "shape":
            return _with(scene, index, replace(item, shape=_other(rng, SHAPES, item.shape)))
        case "size":
            return _with(scene, index, _resized(scene, item))
        case "count":
            extra = _extra(scene, item, rng) if rng.random() < 0.5 else None
            return replace(scene, objects=(*scene.objects, extra)) if extra else _with(scene, index)
        case "position":
            return _moved(scene, rng)
        case _:
            assert_never(broken)


def _other(rng: np.random.Generator, names: tuple[str, ...], name: str) -> str:
    others = [other for other in names if other != name]
    return others[int(rng.integers(len(others)))]


def _with(scene: Scene, index: int, *items: Object) -> Scene:
    return replace(scene, objects=(*scene.objects[:index], *items, *scene.objects[index + 1 :]))


def _resized(scene: Scene, item: Object) -> Object:
    """Small for large, and large as far as there is room for small."""
    if item.size == "large":
        return replace(item, size="small", radius=round(item.radius / _RESIZE, 2))
    reach = min(item.radius * _RESIZE * REACH, _room(scene, item, item.x, item.y))
    return replace(item, size="large", radius=round(reach / REACH, 2))


def _room(scene: Scene, item: Object | None, x: float, y: float) -> float:
    """Greatest reach of an object at (x, y) beside all but ``item``."""
    border = min(x, y, scene.width - x, scene.height - y) - _GAP / 2
    others = (float(np.hypot(x - o.x, y - o.y)) - REACH * o.radius - _GAP for o in scene.objects if o is not item)
    return min([border, *others])


def _extra(scene: Scene, item: Object, rng: np.random.Generator) -> Object | None:
    for _ in range(_TRIES):
        x, y = round(rng.uniform(0, scene.width), 2), round(rng.uniform(0, scene.height), 2)
        if _room(scene, None, x, y) >= REACH * _EXTRA:
            return replace(item, x=x, y=y, size="small", radius=_EXTRA)
    return None


def _moved(scene: Scene, rng: np.random.Generator) -> Scene | None:
    if len(scene.objects) == 1:
        return replace(scene, objects=(_elsewhere(scene, scene.objects[0], rng),))
    if len({item.kind for item in scene.objects}) == 1:
        return _turned(scene)
    first, second = (int(i) for i in rng.choice(len(scene.objects), size=2, replace=False))
    a, b = scene.objects[first], scene.objects[second]
    for index, item, other in ((first, a, b), (second, b, a)):
        scene = _with(scene, index, replace(item, x=other.x, y=other.y))
    for index in (first, second):
        item = scene.objects[index]
        reach = min(REACH * item.radius, _room(scene, item, item.x, item.y))
        scene = _with(scene, index, replace(item, radius=round(reach / REACH, 2)))
    return scene


def _elsewhere(scene: Scene, item: Object, rng: np.random.Generator) -> Object:
    """A single object in another of its nine places, as large for its rectangle as it was."""
    columns, rows = (0.25, 0.5, 0.75), (0.25, 0.5, 0.75)
    here = (item.x / scene.width, item.y / scene.height)
    places = [(u, v) for v in rows for u in columns if max(abs(u - here[0]), abs(v - here[1])) > 0.2]
    u, v = places[int(rng.integers(len(places)))]
    return _placed(scene, (item,), [(u * scene.width, v * scene.height)])[0]


def _turned(scene: Scene) -> Scene | None:
    """A group of equal objects, its rows turned into columns."""
    if len(scene.objects) == 4:
        return None
    centers = [(item.y / scene.height * scene.width, item.x / scene.width * scene.height) for item in scene.objects]
    return replace(scene, objects=_placed(scene, scene.objects, centers))


def _placed(scene: Scene, items: tuple[Object, ...], centers: list[tuple[float, float]]) -> tuple[Object, ...]:
    """Objects at other centres, their radii as the rectangles there are to the ones that they had."""
    before = shorter_sides([(item.x, item.y) for item in items], scene.width, scene.height)
    after = shorter_sides(centers, scene.width, scene.height)
    return tuple(
        replace(item, x=round(x, 2), y=round(y, 2), radius=round(item.radius * new / old, 2))
        for item, (x, y), old, new in zip(items, centers, before, after, strict=True)
    )
