"""Captions of the validation split, which training never uses, for images that rules can judge."""

from collections.abc import Callable
from typing import Any

import numpy as np

from datamodules.scenes.expectation import parse_expectation
from datamodules.scenes.phrases import (
    NUMBER_WORDS,
    PLACES,
    join_phrases,
    plural,
    random_details,
    singular,
    with_background,
)
from datamodules.scenes.scene import (
    BACKGROUNDS,
    COLORS,
    IMAGE_SIZE_PROBABILITIES,
    IMAGE_SIZES,
    RELATIONS,
    SHAPES,
    SIZES,
)
from datamodules.scenes.split import split_of

GROUPS = ("single_object", "color_attr", "position", "counting")

_KINDS = tuple((shape, color) for shape in SHAPES for color in COLORS)
# These groups have so few plain captions that most held-out captions also mention a size, place or background.
_SMALL_GROUPS = ("single_object", "counting")
_MAX_ATTEMPTS = 20_000  # number of draws without a new caption before captions of a group may be repeated


def held_out_prompts(count: int, seed: int) -> list[dict[str, Any]]:
    """Return expectations (see ``parse_expectation``), each with the "width" and "height" of the image to sample.

    The prompts have the form of the scenes' short captions and cycle through the four ``GROUPS``: one object, two
    objects, two objects in a relation, and several objects of one kind. No prompt is repeated until the held-out
    captions of its group run out. The smallest group, counting, has about 40 captions.

    Args:
        count: Number of prompts.
        seed: Seed for drawing the prompts.
    """
    rng = np.random.default_rng(seed)
    used: dict[str, set[str]] = {group: set() for group in GROUPS}
    prompts = []
    for i in range(count):
        group = GROUPS[i % len(GROUPS)]
        expectation = parse_expectation(held_out_caption(group, rng, used[group]))
        width, height = random_size(rng)
        prompts.append({**expectation, "width": width, "height": height})
    return prompts


def held_out_caption(
    group: str,
    rng: np.random.Generator,
    used: set[str],
    is_suitable: Callable[[str], bool] | None = None,
) -> str:
    """Draw a validation caption that has not been used, and add it to ``used``.

    If no unused caption is left, ``used`` is cleared first.

    Args:
        group: One of ``GROUPS``.
        rng: Random number generator.
        used: Captions to exclude.
        is_suitable: Predicate that accepts or rejects a caption. None accepts all captions.
    """
    while True:
        for _ in range(_MAX_ATTEMPTS):
            caption = _draw_caption(group, rng)
            is_new = caption not in used and split_of(caption) == "validation"
            if is_new and (is_suitable is None or is_suitable(caption)):
                used.add(caption)
                return caption
        used.clear()


def random_size(rng: np.random.Generator) -> tuple[int, int]:
    """Draw a width and height in pixels with the same probabilities as for scenes."""
    return IMAGE_SIZES[int(rng.choice(len(IMAGE_SIZES), p=IMAGE_SIZE_PROBABILITIES))]


def _draw_caption(group: str, rng: np.random.Generator) -> str:
    """Draw a caption of a group, from either split."""
    details = random_details(rng, 0.4 if group in _SMALL_GROUPS else 0.12)
    first = int(rng.integers(len(_KINDS)))
    second = (first + 1 + int(rng.integers(len(_KINDS) - 1))) % len(_KINDS)
    sizes = [tuple(SIZES)[int(i)] if details.size else "" for i in rng.integers(len(SIZES), size=2)]
    phrases = [singular(*_KINDS[first], sizes[0]), singular(*_KINDS[second], sizes[1])]
    if group == "position":
        text = f"{phrases[0]} {RELATIONS[int(rng.integers(len(RELATIONS)))]} {phrases[1]}"
    elif group == "counting":
        text = plural(tuple(NUMBER_WORDS)[int(rng.integers(len(NUMBER_WORDS)))], *_KINDS[first], sizes[0])
    else:
        text = join_phrases(phrases if group == "color_attr" else phrases[:1])
    if details.place and group == "single_object":
        row, column = rng.integers(len(PLACES), size=2)
        text = f"{text} {PLACES[int(row)][int(column)]}"
    if details.background:
        return with_background(text, tuple(BACKGROUNDS)[int(rng.integers(len(BACKGROUNDS)))])
    return text
