"""Captions of a scene, short and long, and its exact annotations.

A short caption follows GenEval's prompts: colour and shape, sometimes a relation, a count, a size, a place or
the background. A long one follows DPG-Bench: background, number, every object with size, colour, shape and
place, then the clear relations. Both are always true of the scene.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from datamodules.scenes.draw import OUTLINES
from datamodules.scenes.expectation import expectation
from datamodules.scenes.phrases import NUMBERS, PLACES, listed, on_background, one, random_extras, several
from datamodules.scenes.scene import Object, Scene, clear_relation

_CLEAR = 0.24  # thirds; a short caption tells a place only this far inside one


def captions(scene: Scene, seed: int) -> list[str]:
    """[short, long]; the same for the same scene and seed."""
    return [short_caption(scene, seed), _long(scene, np.random.default_rng((seed, 2)))]


def short_caption(scene: Scene, seed: int) -> str:
    """``captions(scene, seed)[0]``, at a fraction of the time."""
    rng = np.random.default_rng((seed, 1))
    objects = scene.objects
    extras = random_extras(rng)
    first = objects[0]
    if len(objects) > 1 and len({item.kind for item in objects}) == 1:
        text = several(len(objects), *first.kind, first.size if extras.sized else "")
    else:
        order = [objects[int(i)] for i in rng.permutation(len(objects))]
        phrases = [one(*item.kind, item.size if extras.sized else "") for item in order]
        relation = clear_relation(order[0], order[1]) if len(order) == 2 and rng.random() < 0.6 else None
        if relation:
            return f"{phrases[0]} {relation} {phrases[1]}"
        text = listed(phrases)
    if extras.background:
        return on_background(text, scene.background)
    if extras.place and len(objects) == 1 and (place := _place(scene, first, _CLEAR)):
        return f"{text} {place}"
    return text


def annotations(scene: Scene, caption: str) -> dict[str, Any]:
    """The scene exactly, ready for JSON, with what its short ``caption`` asks for under "geneval".

    Each object also has its "box" (left, top, right, bottom) in pixels.
    """
    return {
        "width": scene.width,
        "height": scene.height,
        "background": scene.background,
        "objects": [{**dataclasses.asdict(item), "box": _box(item)} for item in scene.objects],
        "geneval": expectation(caption),
    }


def scene_from_annotations(record: dict[str, Any]) -> Scene:
    """The inverse of ``annotations``."""
    names = [field.name for field in dataclasses.fields(Object)]
    objects = tuple(Object(**{name: item[name] for name in names}) for item in record["objects"])
    return Scene(record["width"], record["height"], record["background"], objects)


def _box(item: Object) -> list[float]:
    us, vs = zip(*OUTLINES[item.shape], strict=True)
    x, y, r = item.x, item.y, item.radius
    return [round(side, 2) for side in (x + r * min(us), y + r * min(vs), x + r * max(us), y + r * max(vs))]


def _long(scene: Scene, rng: np.random.Generator) -> str:
    objects = scene.objects
    count, first = len(objects), objects[0]
    shapes = "one shape" if count == 1 else f"{NUMBERS[count]} shapes"
    sentences = [
        (
            f"on a plain {scene.background} background there {'is' if count == 1 else 'are'} {shapes}",
            f"the picture shows {shapes} on a plain {scene.background} background",
        )[int(rng.integers(2))]
    ]
    places = [str(_place(scene, item, 0.0)) for item in objects]
    if count == 1:
        sentences.append(f"it is {one(*first.kind, first.size)} {places[0]}")
        sentences.append("there is nothing else in the picture")
    elif len({item.kind for item in objects}) == 1:
        sentences.append(f"they are {several(count, *first.kind, first.size)}")
        sentences.append(f"one is {listed([places[0], *(f'one {place}' for place in places[1:])])}")
    else:
        told = [f"{one(*item.kind, item.size)} is {place}" for item, place in zip(objects, places, strict=True)]
        sentences.extend(" and ".join(told[i : i + 2]) for i in range(0, count, 2))
        if relations := _relations(objects)[:2]:
            sentences.append(", and ".join(relations))
    return " ".join(f"{sentence[0].upper()}{sentence[1:]}." for sentence in sentences)


def _relations(objects: Sequence[Object]) -> list[str]:
    return [
        f"the {first.color} {first.shape} is {relation} the {second.color} {second.shape}"
        for i, first in enumerate(objects)
        for second in objects[i + 1 :]
        if (relation := clear_relation(first, second))
    ]


def _place(scene: Scene, item: Object, margin: float) -> str | None:
    """The third of the picture that the centre lies in; None within ``margin`` thirds of another one."""
    columns, rows = item.x / scene.width * 3, item.y / scene.height * 3
    if any(min(abs(v - 1), abs(v - 2)) < margin for v in (columns, rows)):
        return None
    return PLACES[int(rows)][int(columns)]
