"""Captions of a scene, short and long, and its exact annotations.

A short caption follows GenEval's prompts: colour and shape, sometimes a relation, a count, a size, a place or
the background. A long one follows DPG-Bench: background, number, every object with size, colour, shape and
place, then the clear relations. Both are always true of the scene.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from datamodules.scenes.expectation import parse_expectation
from datamodules.scenes.phrases import (
    NUMBER_WORDS,
    PLACES,
    OptionalDetails,
    join_phrases,
    plural,
    random_details,
    singular,
    with_background,
)
from datamodules.scenes.render import OUTLINES
from datamodules.scenes.scene import BACKGROUNDS, Object, Scene, clear_relation, default_rows


def caption_scene(scene: Scene, seed: int) -> list[str]:
    """[short, long]; the same for the same scene and seed."""
    return [short_caption(scene, seed), _long(scene, np.random.default_rng((seed, 2)))]


def short_caption(scene: Scene, seed: int) -> str:
    """``captions(scene, seed)[0]``, at a fraction of the time.

    It tells all that departs from the usual (a large object, in the middle or in usual rows, on white), and of the
    usual a little.
    """
    rng = np.random.default_rng((seed, 1))
    objects = scene.objects
    extras = random_details(rng)
    if len(objects) == 1:
        text = _name(objects[0], extras)
        place = place_of(scene, objects[0])
        if place != PLACES[1][1] or extras.place:
            text = f"{text} {place}"
    elif len({item.kind for item in objects}) == 1:
        first = objects[0]
        text = plural(len(objects), *first.kind, first.size if extras.sized or first.size == "small" else "")
    elif len(objects) == 2 and (not _usual_pair(scene) or rng.random() < 0.5):
        first, second = objects if rng.random() < 0.5 else objects[::-1]
        text = f"{_name(first, extras)} {clear_relation(first, second)} {_name(second, extras)}"
    else:
        text = join_phrases([_name(item, extras) for item in objects])
    if scene.background != next(iter(BACKGROUNDS)) or extras.background:
        return with_background(text, scene.background)
    return text


def _name(item: Object, extras: OptionalDetails) -> str:
    return singular(*item.kind, item.size if extras.sized or item.size == "small" else "")


def _usual_pair(scene: Scene) -> bool:
    beside = clear_relation(*scene.objects) in ("left of", "right of")
    return default_rows(2, scene.width, scene.height) == ((2,) if beside else (1, 1))


def annotate_scene(scene: Scene, caption: str) -> dict[str, Any]:
    """The scene exactly, ready for JSON, with what its short ``caption`` asks for under "geneval".

    Each object also has its "box" (left, top, right, bottom) in pixels.
    """
    return {
        "width": scene.width,
        "height": scene.height,
        "background": scene.background,
        "objects": [{**dataclasses.asdict(item), "box": _box(item)} for item in scene.objects],
        "geneval": parse_expectation(caption),
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
    shapes = "one shape" if count == 1 else f"{NUMBER_WORDS[count]} shapes"
    sentences = [
        (
            f"on a plain {scene.background} background there {'is' if count == 1 else 'are'} {shapes}",
            f"the picture shows {shapes} on a plain {scene.background} background",
        )[int(rng.integers(2))]
    ]
    places = [place_of(scene, item) for item in objects]
    if count == 1:
        sentences.append(f"it is {singular(*first.kind, first.size)} {places[0]}")
        sentences.append("there is nothing else in the picture")
    elif len({item.kind for item in objects}) == 1:
        sentences.append(f"they are {plural(count, *first.kind, first.size)}")
        sentences.append(f"one is {join_phrases([places[0], *(f'one {place}' for place in places[1:])])}")
    else:
        told = [f"{singular(*item.kind, item.size)} is {place}" for item, place in zip(objects, places, strict=True)]
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


def place_of(scene: Scene, item: Object) -> str:
    """The third of the picture that the centre lies in."""
    return PLACES[int(item.y / scene.height * 3)][int(item.x / scene.width * 3)]
