"""Parses short captions into the format of GenEval's metadata (Ghosh et al. 2023, arXiv 2310.11513).

    {"tag": "position", "prompt": "a red circle left of a blue square",
     "include": [{"class": "square", "count": 1, "color": "blue"},
                 {"class": "circle", "count": 1, "color": "red", "position": ["left of", 0]}]}

A position refers to an earlier entry of "include" by its index. Captions name the color of every object. The metadata
has one of four tags:

- single_object: one object;
- color_attr: two to four different objects, each with its own color;
- position: two objects and their relation;
- counting: several objects of one kind. As in GenEval, "exclude" rejects images with additional objects.

The metadata does not contain size, place, or background, because they are not judged.
"""

import re
from typing import Any

from datamodules.scenes.phrases import NUMBER_WORDS, PLACES
from datamodules.scenes.scene import BACKGROUNDS, COLORS, RELATIONS, SHAPES
from pocketdit.errors import UserError

_PHRASE = re.compile(
    rf"(?P<number>an?|{'|'.join(NUMBER_WORDS.values())}) (?:small |large )?(?P<color>{'|'.join(COLORS)})"
    rf" (?P<shape>{'|'.join(SHAPES)})(?P<plural>e?s)?"
)
_RELATION = re.compile(rf" ({'|'.join(RELATIONS)}) (?=an? )")
_PLACE_AND_BACKGROUND = re.compile(
    rf"(?: (?:{'|'.join(place for row in PLACES for place in row)}))?"
    rf"(?: on a (?:{'|'.join(BACKGROUNDS)}) background)?$"
)


def parse_expectation(caption: str) -> dict[str, Any]:
    """Parse the short caption of a scene.

    Raises:
        UserError: The caption is not a short caption of a scene.
    """
    text = _PLACE_AND_BACKGROUND.sub("", caption)
    parts = _RELATION.split(text)
    if len(parts) == 3:
        first, relation, second = parts
        include = [_parse_phrase(second, caption), {**_parse_phrase(first, caption), "position": [relation, 0]}]
        return {"tag": "position", "include": include, "prompt": caption}
    include = [_parse_phrase(phrase, caption) for phrase in re.split(r", | and ", text)]
    if len(include) == 1 and include[0]["count"] > 1:
        exclude = [{**include[0], "count": include[0]["count"] + 1}]
        return {"tag": "counting", "include": include, "exclude": exclude, "prompt": caption}
    tag = "single_object" if len(include) == 1 else "color_attr"
    return {"tag": tag, "include": include, "prompt": caption}


def _parse_phrase(phrase: str, caption: str) -> dict[str, Any]:
    match = _PHRASE.fullmatch(phrase)
    if match is None or (match["number"] in NUMBER_WORDS.values()) != bool(match["plural"]):
        raise UserError(f"caption {caption!r}: {phrase!r} does not have the form 'a red circle' or 'two red circles'")
    counts = {word: count for count, word in NUMBER_WORDS.items()}
    return {"class": match["shape"], "count": counts.get(match["number"], 1), "color": match["color"]}
