"""Captions of a composition, and its exact annotations.

A short caption resembles a GenEval prompt: "two red apples left of a bicycle on a yellow background". A long caption
adds places, main colors, and sometimes another name. Captions are always true.
"""

import dataclasses
from typing import Any

import numpy as np

from datamodules.pictograms.catalog import CATALOG
from datamodules.pictograms.composition import DEFAULT_BACKGROUND, SIZES, Composition, Item, relation
from datamodules.pictograms.render import main_colors
from datamodules.scenes.phrases import NUMBER_WORDS, PLACES, join_phrases, with_background

_MENTION = 0.15  # probability that a short caption mentions a default


def caption_composition(composition: Composition, seed: int) -> list[str]:
    """Return the short caption and the long caption. They depend only on the arguments."""
    return [short_caption(composition, seed), _long_caption(composition, np.random.default_rng((seed, 2)))]


def short_caption(composition: Composition, seed: int) -> str:
    """Return the short caption, ``caption_composition(composition, seed)[0]``, without computing the long one.

    The caption mentions everything that differs from the defaults, which are a white background and, for a single
    pictogram, a large size and a place in the center. Occasionally, the caption also mentions a default.
    """
    rng = np.random.default_rng((seed, 1))
    mention_size, mention_place, mention_background, swap = rng.random(4) < (_MENTION, _MENTION, _MENTION, 0.5)
    groups = composition.groups()
    if len(groups) == 2:
        first, second = groups[::-1] if swap else groups
        text = f"{_counted(first)} {relation(first[0], second[0])} {_counted(second)}"
    elif len(composition.items) > 1:
        text = _counted(groups[0])
    else:
        [item] = composition.items
        size, place = size_of(item), place_of(item)
        text = with_article(f"{size} {item.name}" if size == "small" or mention_size else item.name)
        text = f"{text} {place}" if place != PLACES[1][1] or mention_place else text
    if composition.background != DEFAULT_BACKGROUND or mention_background:
        return with_background(text, composition.background)
    return text


def _counted(group: list[Item]) -> str:
    pictogram = CATALOG[group[0].name]
    return with_article(pictogram.name) if len(group) == 1 else f"{NUMBER_WORDS[len(group)]} {pictogram.plural}"


def with_article(noun: str) -> str:
    """Return the noun with the indefinite article."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def size_of(item: Item) -> str:
    """Return the size of a single pictogram, "small" or "large"."""
    return "small" if item.side <= SIZES["small"][1] else "large"


def place_of(item: Item) -> str:
    """Return the phrase for the cell of a 3x3 grid over the image that contains the pictogram's center."""
    return PLACES[int(item.y * 3)][int(item.x * 3)]


def _long_caption(composition: Composition, rng: np.random.Generator) -> str:
    groups = composition.groups()
    sentences = [
        f"{join_phrases([_counted(group) for group in groups])} on a plain {composition.background} background"
    ]
    for group in groups:
        pictogram = CATALOG[group[0].name]
        alias = f", or {pictogram.aliases[0]}," if pictogram.aliases and rng.random() < 0.5 else ""
        colors = join_phrases(main_colors(pictogram.name)[:2])
        places = [place_of(item) for item in group]
        if len(group) > 1:
            where = join_phrases([places[0], *(f"one {place}" for place in places[1:])])
            sentences += [f"the {pictogram.plural} are {colors}", f"one {pictogram.name}{alias} is {where}"]
        elif len(composition.items) == 1:
            sentences.append(f"the {pictogram.name}{alias} is {size_of(group[0])}, {colors}, and {places[0]}")
        else:
            sentences.append(f"the {pictogram.name}{alias} is {colors}, and it is {places[0]}")
    return " ".join(f"{sentence[0].upper()}{sentence[1:]}." for sentence in sentences)


def annotate_composition(composition: Composition, caption: str) -> dict[str, Any]:
    """Return an exact description of the composition that can be serialized as JSON.

    The entry "geneval" describes the pictograms in the format of GenEval's metadata (Ghosh et al. 2023, arXiv
    2310.11513), without size, place and background, which GenEval does not judge. The classes are the names in the
    catalog, and the prompt is the short ``caption``.
    """
    return {
        "background": composition.background,
        "items": [dataclasses.asdict(item) for item in composition.items],
        "geneval": {"prompt": caption, **_expectation(composition)},
    }


def _expectation(composition: Composition) -> dict[str, Any]:
    groups = composition.groups()
    include: list[dict[str, Any]] = [{"class": group[0].name, "count": len(group)} for group in groups]
    if len(groups) == 2:
        include[1]["position"] = [relation(groups[1][0], groups[0][0]), 0]
        return {"tag": "position", "include": include}
    if len(composition.items) == 1:
        return {"tag": "single_object", "include": include}
    return {"tag": "counting", "include": include, "exclude": [{**include[0], "count": include[0]["count"] + 1}]}
