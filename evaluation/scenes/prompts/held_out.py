"""Captions that training never saw, for pictures that rules can check."""

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
# Their plain captions are so few that most of the held-out ones tell size, place or background too.
_FEW = ("single_object", "counting")
_PATIENCE = 20_000  # captions in a row without a new one, before a group starts over


def held_out_prompts(count: int, seed: int) -> list[dict[str, Any]]:
    """``count`` expectations (see datamodules.scenes.expectation), each with "width" and "height" to draw.

    The prompts are captions of the validation split, in the forms that scenes have theirs in: in turn one
    object, two objects, two in relation, and several of one kind (``GROUPS``). None comes twice before the
    held-out captions of its group run out; the smallest group, counting, has about 40.
    """
    rng = np.random.default_rng(seed)
    seen: dict[str, set[str]] = {group: set() for group in GROUPS}
    prompts = []
    for i in range(count):
        group = GROUPS[i % len(GROUPS)]
        asked = parse_expectation(held_out_caption(group, rng, seen[group]))
        width, height = random_size(rng)
        prompts.append({**asked, "width": width, "height": height})
    return prompts


def held_out_caption(
    group: str,
    rng: np.random.Generator,
    seen: set[str],
    wanted: Callable[[str], bool] | None = None,
) -> str:
    """A wanted validation caption of one of ``GROUPS``, not in ``seen``; it is added there.

    ``seen`` is emptied when the group has no more.
    """
    while True:
        for _ in range(_PATIENCE):
            caption = _caption(group, rng)
            if caption not in seen and split_of(caption) == "validation" and (wanted is None or wanted(caption)):
                seen.add(caption)
                return caption
        seen.clear()


def random_size(rng: np.random.Generator) -> tuple[int, int]:
    """(width, height) in pixels, as often as scenes have it."""
    return IMAGE_SIZES[int(rng.choice(len(IMAGE_SIZES), p=IMAGE_SIZE_PROBABILITIES))]


def _caption(group: str, rng: np.random.Generator) -> str:
    """A caption of the group, held out or not."""
    extras = random_details(rng, 0.4 if group in _FEW else 0.12)
    first = int(rng.integers(len(_KINDS)))
    second = (first + 1 + int(rng.integers(len(_KINDS) - 1))) % len(_KINDS)
    sizes = [tuple(SIZES)[int(i)] if extras.sized else "" for i in rng.integers(len(SIZES), size=2)]
    phrases = [singular(*_KINDS[first], sizes[0]), singular(*_KINDS[second], sizes[1])]
    if group == "position":
        text = f"{phrases[0]} {RELATIONS[int(rng.integers(len(RELATIONS)))]} {phrases[1]}"
    elif group == "counting":
        text = plural(tuple(NUMBER_WORDS)[int(rng.integers(len(NUMBER_WORDS)))], *_KINDS[first], sizes[0])
    else:
        text = join_phrases(phrases if group == "color_attr" else phrases[:1])
    if extras.place and group == "single_object":
        row, column = rng.integers(len(PLACES), size=2)
        text = f"{text} {PLACES[int(row)][int(column)]}"
    if extras.background:
        return with_background(text, tuple(BACKGROUNDS)[int(rng.integers(len(BACKGROUNDS)))])
    return text
