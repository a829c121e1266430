"""Adds defects to scenes to test whether the judges notice them."""

from dataclasses import replace
from typing import Literal, assert_never, get_args

import numpy as np

from datamodules.scenes.scene import BACKGROUNDS, COLORS, REACH, SHAPES, SIZES, Object, Scene
from evaluation.scenes.judges.layout import shorter_sides

Defect = Literal["color", "shape", "size", "count", "position", "background"]
DEFECTS: tuple[Defect, ...] = get_args(Defect)

_GAP = 4.0  # minimum distance between objects in pixels; objects must be half as far from the border
_EXTRA_RADIUS = 10.0  # radius of an additional object in pixels
_MAX_ATTEMPTS = 200
_SIZE_RATIO = sum(SIZES["large"]) / sum(SIZES["small"])


def add_defect(scene: Scene, defect: Defect, seed: int) -> Scene | None:
    """Change only one attribute of a scene. The result depends only on the arguments.

    - color, shape, size: One object changes.
    - count: An object is removed, or a small object of the same kind is added in free space.
    - position: Two objects of different kinds swap places and shrink if necessary. A single object, or a group of
      equal objects, moves elsewhere.
    - background: The background changes.

    Returns:
        The changed scene, or None if the change is impossible. Four equal objects always form a 2x2 grid, and an empty
        scene can change only in its background.
    """
    rng = np.random.default_rng((seed, DEFECTS.index(defect)))
    if defect == "background":
        return replace(scene, background=_draw_other(rng, tuple(BACKGROUNDS), scene.background))
    if not scene.objects:
        return None
    index = int(rng.integers(len(scene.objects)))
    item = scene.objects[index]
    match defect:
        case "color":
            return _replace_object(scene, index, replace(item, color=_draw_other(rng, tuple(COLORS), item.color)))
        case "shape":
            return _replace_object(scene, index, replace(item, shape=_draw_other(rng, SHAPES, item.shape)))
        case "size":
            return _replace_object(scene, index, _resize(scene, item))
        case "count":
            extra = _draw_extra(scene, item, rng) if rng.random() < 0.5 else None
            return replace(scene, objects=(*scene.objects, extra)) if extra else _replace_object(scene, index)
        case "position":
            return _change_positions(scene, rng)
        case _:
            assert_never(defect)


def _draw_other(rng: np.random.Generator, names: tuple[str, ...], name: str) -> str:
    others = [other for other in names if other != name]
    return others[int(rng.integers(len(others)))]


def _replace_object(scene: Scene, index: int, *items: Object) -> Scene:
    """Replace an object with ``items``, or remove it if there are no items."""
    return replace(scene, objects=(*scene.objects[:index], *items, *scene.objects[index + 1 :]))


def _resize(scene: Scene, item: Object) -> Object:
    """Make a large object small, or a small object as large as the available space permits."""
    if item.size == "large":
        return replace(item, size="small", radius=round(item.radius / _SIZE_RATIO, 2))
    reach = min(item.radius * _SIZE_RATIO * REACH, _available_reach(scene, item, item.x, item.y))
    return replace(item, size="large", radius=round(reach / REACH, 2))


def _available_reach(scene: Scene, item: Object | None, x: float, y: float) -> float:
    """Return the maximum reach of an object at (x, y) that collides with no object except possibly ``item``."""
    border = min(x, y, scene.width - x, scene.height - y) - _GAP / 2
    others = (float(np.hypot(x - o.x, y - o.y)) - REACH * o.radius - _GAP for o in scene.objects if o is not item)
    return min([border, *others])


def _draw_extra(scene: Scene, item: Object, rng: np.random.Generator) -> Object | None:
    for _ in range(_MAX_ATTEMPTS):
        x, y = round(rng.uniform(0, scene.width), 2), round(rng.uniform(0, scene.height), 2)
        if _available_reach(scene, None, x, y) >= REACH * _EXTRA_RADIUS:
            return replace(item, x=x, y=y, size="small", radius=_EXTRA_RADIUS)
    return None


def _change_positions(scene: Scene, rng: np.random.Generator) -> Scene | None:
    if len(scene.objects) == 1:
        return replace(scene, objects=(_move_elsewhere(scene, scene.objects[0], rng),))
    if len({item.kind for item in scene.objects}) == 1:
        return _transpose_rows(scene)
    first, second = (int(i) for i in rng.choice(len(scene.objects), size=2, replace=False))
    a, b = scene.objects[first], scene.objects[second]
    for index, item, other in ((first, a, b), (second, b, a)):
        scene = _replace_object(scene, index, replace(item, x=other.x, y=other.y))
    for index in (first, second):
        item = scene.objects[index]
        reach = min(REACH * item.radius, _available_reach(scene, item, item.x, item.y))
        scene = _replace_object(scene, index, replace(item, radius=round(reach / REACH, 2)))
    return scene


def _move_elsewhere(scene: Scene, item: Object, rng: np.random.Generator) -> Object:
    """Move a single object to another of the nine places. Its size relative to its cell stays the same."""
    columns, rows = (0.25, 0.5, 0.75), (0.25, 0.5, 0.75)
    here = (item.x / scene.width, item.y / scene.height)
    places = [(u, v) for v in rows for u in columns if max(abs(u - here[0]), abs(v - here[1])) > 0.2]
    u, v = places[int(rng.integers(len(places)))]
    return _move_to(scene, (item,), [(u * scene.width, v * scene.height)])[0]


def _transpose_rows(scene: Scene) -> Scene | None:
    """Turn the rows of a group of equal objects into columns."""
    if len(scene.objects) == 4:
        return None
    centers = [(item.y / scene.height * scene.width, item.x / scene.width * scene.height) for item in scene.objects]
    return replace(scene, objects=_move_to(scene, scene.objects, centers))


def _move_to(scene: Scene, items: tuple[Object, ...], centers: list[tuple[float, float]]) -> tuple[Object, ...]:
    """Move objects to other centers and scale them with their cells."""
    before = shorter_sides([(item.x, item.y) for item in items], scene.width, scene.height)
    after = shorter_sides(centers, scene.width, scene.height)
    return tuple(
        replace(item, x=round(x, 2), y=round(y, 2), radius=round(item.radius * new / old, 2))
        for item, (x, y), old, new in zip(items, centers, before, after, strict=True)
    )
