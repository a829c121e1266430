"""Short and long captions of a scene, and its exact annotations.

A short caption resembles a GenEval prompt. It names colors and shapes, sometimes with a relation, a count, a size, a
place, or the background. A long caption resembles a DPG-Bench prompt. It describes the background, the number of
objects, the size, color, shape, and place of each object, and some unambiguous relations. Captions are always true.
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
from datamodules.scenes.scene import DEFAULT_BACKGROUND, Object, Scene, clear_relation, default_rows


def caption_scene(scene: Scene, seed: int) -> list[str]:
    """Return the short and the long caption. They depend only on the arguments."""
    return [short_caption(scene, seed), _long_caption(scene, np.random.default_rng((seed, 2)))]


def short_caption(scene: Scene, seed: int) -> str:
    """Return the short caption, ``caption_scene(scene, seed)[0]``, without computing the long one.

    The caption mentions everything that differs from the defaults (large objects in the center or in default rows on a
    white background). Occasionally, it also mentions a default.
    """
    rng = np.random.default_rng((seed, 1))
    objects = scene.objects
    details = random_details(rng)
    if len(objects) == 1:
        text = _object_phrase(objects[0], details)
        place = place_of(scene, objects[0])
        if place != PLACES[1][1] or details.place:
            text = f"{text} {place}"
    elif len({item.kind for item in objects}) == 1:
        text = plural(len(objects), *objects[0].kind, _mentioned_size(objects[0], details))
    elif len(objects) == 2 and (not _is_default_pair(scene) or rng.random() < 0.5):
        first, second = objects if rng.random() < 0.5 else objects[::-1]
        relation = clear_relation(first, second)
        text = f"{_object_phrase(first, details)} {relation} {_object_phrase(second, details)}"
    else:
        text = join_phrases([_object_phrase(item, details) for item in objects])
    if scene.background != DEFAULT_BACKGROUND or details.background:
        return with_background(text, scene.background)
    return text


def _object_phrase(item: Object, details: OptionalDetails) -> str:
    return singular(*item.kind, _mentioned_size(item, details))


def _mentioned_size(item: Object, details: OptionalDetails) -> str:
    return item.size if details.size or item.size == "small" else ""


def _is_default_pair(scene: Scene) -> bool:
    """Return whether the two objects are arranged in the default rows."""
    side_by_side = clear_relation(*scene.objects) in ("left of", "right of")
    return default_rows(2, scene.width, scene.height) == ((2,) if side_by_side else (1, 1))


def annotate_scene(scene: Scene, caption: str) -> dict[str, Any]:
    """Return an exact description of the scene that can be serialized as JSON.

    Each object has an additional entry "box" (left, top, right, bottom) in pixels. The entry "geneval" describes the
    content of the short ``caption`` (see ``parse_expectation``).
    """
    return {
        "width": scene.width,
        "height": scene.height,
        "background": scene.background,
        "objects": [{**dataclasses.asdict(item), "box": _bounding_box(item)} for item in scene.objects],
        "geneval": parse_expectation(caption),
    }


def scene_from_annotations(annotations: dict[str, Any]) -> Scene:
    """Restore a scene from the result of ``annotate_scene``."""
    names = [field.name for field in dataclasses.fields(Object)]
    objects = tuple(Object(**{name: item[name] for name in names}) for item in annotations["objects"])
    return Scene(annotations["width"], annotations["height"], annotations["background"], objects)


def _bounding_box(item: Object) -> list[float]:
    us, vs = zip(*OUTLINES[item.shape], strict=True)
    x, y, r = item.x, item.y, item.radius
    return [round(side, 2) for side in (x + r * min(us), y + r * min(vs), x + r * max(us), y + r * max(vs))]


def _long_caption(scene: Scene, rng: np.random.Generator) -> str:
    objects = scene.objects
    count, first = len(objects), objects[0]
    shapes = "one shape" if count == 1 else f"{NUMBER_WORDS[count]} shapes"
    # Do not change these words: existing data sets contain them, and trained judges rely on them.
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
        clauses = [f"{singular(*item.kind, item.size)} is {place}" for item, place in zip(objects, places, strict=True)]
        sentences.extend(" and ".join(clauses[i : i + 2]) for i in range(0, count, 2))
        if relations := _relation_clauses(objects)[:2]:
            sentences.append(", and ".join(relations))
    return " ".join(f"{sentence[0].upper()}{sentence[1:]}." for sentence in sentences)


def _relation_clauses(objects: Sequence[Object]) -> list[str]:
    return [
        f"the {first.color} {first.shape} is {relation} the {second.color} {second.shape}"
        for i, first in enumerate(objects)
        for second in objects[i + 1 :]
        if (relation := clear_relation(first, second))
    ]


def place_of(scene: Scene, item: Object) -> str:
    """Return the phrase for the cell of a 3x3 grid over the image that contains the object's center."""
    return PLACES[int(item.y / scene.height * 3)][int(item.x / scene.width * 3)]
