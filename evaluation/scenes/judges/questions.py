"""Parses yes/no questions about scenes.

The questions have one of these forms:

    Is there a red circle?  Are there three stars?  Is there a circle in the top left?
    Is the circle red?  Are the stars large?  Is the red shape a circle?  Is the circle at the top?
    Is the blue square left of the red star?  a red circle left of a blue square?
    a red circle?  three small stars?  a grey background?  Is the background grey?
"""

import re
from dataclasses import dataclass

from datamodules.scenes.phrases import NUMBER_WORDS, PLACES
from datamodules.scenes.scene import BACKGROUNDS, COLORS, RELATIONS, SHAPES, SIZES
from pocketdit.errors import UserError


@dataclass(frozen=True)
class ObjectPhrase:
    """A description of an object. Attributes that it does not mention are None.

    Attributes:
        shape: One of ``SHAPES``, or None for "shape" or "object".
        color: The color.
        size: "small" or "large".
        number: The exact number of matching objects.
    """

    shape: str | None
    color: str | None
    size: str | None
    number: int | None = None


@dataclass(frozen=True)
class Existence:
    """Asks whether at least one object, or exactly ``phrase.number`` objects, match the phrase.

    If ``place`` is set, only objects in that place are considered.
    """

    phrase: ObjectPhrase
    place: str | None


@dataclass(frozen=True)
class Attribute:
    """Asks whether one or all of the objects that match ``subject`` have the ``attributes`` and the ``place``."""

    subject: ObjectPhrase
    attributes: ObjectPhrase
    place: str | None
    all_subjects: bool


@dataclass(frozen=True)
class Relation:
    """Asks whether an object that matches ``first`` is in the named relation to an object that matches ``second``."""

    first: ObjectPhrase
    name: str
    second: ObjectPhrase


@dataclass(frozen=True)
class Background:
    """Asks whether the background has this color."""

    color: str


Question = Existence | Attribute | Relation | Background

_NUMBERS = {"one": 1, **{word: number for number, word in NUMBER_WORDS.items()}}
_ANY_COLOR = "|".join((*COLORS, *BACKGROUNDS))
_ANY_PLACE = "|".join(sorted((place for row in PLACES for place in row), key=len, reverse=True))
_ADJECTIVES = rf"(?:(?P<size>{'|'.join(SIZES)}) ?)?(?:(?P<color>{_ANY_COLOR}) ?)?"
_ADJECTIVES_PATTERN = re.compile(_ADJECTIVES)
_PHRASE_PATTERN = re.compile(
    rf"(?:(?P<article>an?|the|{'|'.join(_NUMBERS)}) )?{_ADJECTIVES}"
    rf"(?P<noun>{'|'.join(SHAPES)}|shape|object)(?P<plural>e?s)?"
)
_BACKGROUND_PATTERN = re.compile(
    rf"(?:(?:is|are) there )?(?:an? )?(?:plain )?(?P<before>{_ANY_COLOR}) background"
    rf"|is the (?:picture's )?background (?:plain )?(?P<after>{_ANY_COLOR})"
)
_RELATION_PATTERN = re.compile(rf" (?:is )?(?:to the )?({'|'.join(RELATIONS)}) ")
_PLACE_PATTERN = re.compile(rf"(?P<rest>.*?) ?(?P<place>{_ANY_PLACE})")
_SUBJECT_PATTERN = re.compile(rf"(?:is|are) (?P<subject>the {_PHRASE_PATTERN.pattern}) (?P<rest>.+)")


def parse_question(text: str) -> Question:
    """Parse a question. Case and the question mark are ignored, and "gray" is treated as "grey".

    Raises:
        UserError: The question does not have one of the forms that the module's docstring lists.
    """
    body = re.sub(r"\s+", " ", text.lower().replace("gray", "grey")).strip(" ?.")
    question = _parse_background(body) or _parse_relation(body) or _parse_attribute(body) or _parse_existence(body)
    if question is None:
        raise UserError(
            f"question {text!r}: the rules for scenes cannot parse it; ask in the form 'Is there a red circle?', "
            "'Is the circle large?', 'Are there three stars?' or 'Is the red circle left of the blue square?'"
        )
    return question


def _parse_background(body: str) -> Background | None:
    match = _BACKGROUND_PATTERN.fullmatch(body)
    return Background(match["before"] or match["after"]) if match else None


def _parse_relation(body: str) -> Relation | None:
    parts = _RELATION_PATTERN.split(re.sub(r"^(?:is|are) (?:there )?", "", body))
    if len(parts) != 3:
        return None
    first, second = _parse_phrase(parts[0]), _parse_phrase(parts[2])
    return Relation(first, parts[1], second) if first and second else None


def _parse_attribute(body: str) -> Attribute | None:
    match = _SUBJECT_PATTERN.fullmatch(body)
    subject = _parse_phrase(match["subject"]) if match else None
    if match is None or subject is None:
        return None
    rest, place = _split_place(match["rest"])
    attributes = _parse_phrase(rest) or _parse_adjectives(rest)
    all_subjects = match["plural"] is not None
    return Attribute(subject, attributes, place, all_subjects) if attributes and (rest or place) else None


def _parse_existence(body: str) -> Existence | None:
    rest, place = _split_place(re.sub(r"^(?:is|are) there ", "", body))
    phrase = _parse_phrase(rest)
    return Existence(phrase, place) if phrase else None


def _split_place(text: str) -> tuple[str, str | None]:
    match = _PLACE_PATTERN.fullmatch(text)
    return (match["rest"], match["place"]) if match else (text, None)


def _parse_phrase(text: str) -> ObjectPhrase | None:
    match = _PHRASE_PATTERN.fullmatch(text)
    if match is None:
        return None
    shape = match["noun"] if match["noun"] in SHAPES else None
    return ObjectPhrase(shape, match["color"], match["size"], _NUMBERS.get(match["article"] or ""))


def _parse_adjectives(text: str) -> ObjectPhrase | None:
    match = _ADJECTIVES_PATTERN.fullmatch(text)
    return ObjectPhrase(None, match["color"], match["size"]) if match else None
