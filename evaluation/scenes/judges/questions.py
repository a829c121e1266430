"""Yes/no questions about drawn scenes, read into what they ask.

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
class Phrase:
    """What an object is called by; None where it is not said. ``number``: exactly so many."""

    shape: str | None
    color: str | None
    size: str | None
    number: int | None = None


@dataclass(frozen=True)
class Existence:
    """Is it there: at least one, or exactly ``phrase.number``; where a place is said, in that place."""

    phrase: Phrase
    place: str | None


@dataclass(frozen=True)
class Attribute:
    """Is one of the ``subject``'s, or every one, also of this shape, colour, size and place."""

    subject: Phrase
    said: Phrase
    place: str | None
    everyone: bool


@dataclass(frozen=True)
class Relation:
    """Is one of the first in this relation to one of the second."""

    first: Phrase
    name: str
    second: Phrase


@dataclass(frozen=True)
class Background:
    """Is the background of this colour."""

    color: str


Question = Existence | Attribute | Relation | Background

_COUNTS = {"one": 1, **{word: number for number, word in NUMBER_WORDS.items()}}
_ANY_COLOR = "|".join((*COLORS, *BACKGROUNDS))
_PLACE = "|".join(sorted((place for row in PLACES for place in row), key=len, reverse=True))
_WORDS = rf"(?:(?P<size>{'|'.join(SIZES)}) ?)?(?:(?P<color>{_ANY_COLOR}) ?)?"
_PHRASE = re.compile(
    rf"(?:(?P<article>an?|the|{'|'.join(_COUNTS)}) )?{_WORDS}(?P<noun>{'|'.join(SHAPES)}|shape|object)(?P<plural>e?s)?"
)
_ADJECTIVES = re.compile(_WORDS)
_BACKGROUND = re.compile(
    rf"(?:(?:is|are) there )?(?:an? )?(?:plain )?(?P<before>{_ANY_COLOR}) background"
    rf"|is the (?:picture's )?background (?:plain )?(?P<after>{_ANY_COLOR})"
)
_RELATION = re.compile(rf" (?:is )?(?:to the )?({'|'.join(RELATIONS)}) ")
_PLACED = re.compile(rf"(?P<rest>.*?) ?(?P<place>{_PLACE})")
_SUBJECT = re.compile(rf"(?:is|are) (?P<subject>the {_PHRASE.pattern}) (?P<rest>.+)")


def parse_question(text: str) -> Question:
    """What a question asks; case, a question mark and "gray" or "grey" make no difference.

    Raises:
        UserError: it is not of the forms above.
    """
    body = re.sub(r"\s+", " ", text.lower().replace("gray", "grey")).strip(" ?.")
    question = _background(body) or _relation(body) or _attribute(body) or _existence(body)
    if question is None:
        raise UserError(
            f"question {text!r}: not one that rules for drawn scenes can read; ask like 'Is there a red circle?', "
            "'Is the circle large?', 'Are there three stars?' or 'Is the red circle left of the blue square?'"
        )
    return question


def _background(body: str) -> Background | None:
    match = _BACKGROUND.fullmatch(body)
    return Background(match["before"] or match["after"]) if match else None


def _relation(body: str) -> Relation | None:
    parts = _RELATION.split(re.sub(r"^(?:is|are) (?:there )?", "", body))
    if len(parts) != 3:
        return None
    first, second = _phrase(parts[0]), _phrase(parts[2])
    return Relation(first, parts[1], second) if first and second else None


def _attribute(body: str) -> Attribute | None:
    match = _SUBJECT.fullmatch(body)
    subject = _phrase(match["subject"]) if match else None
    if match is None or subject is None:
        return None
    rest, place = _placed(match["rest"])
    said = _phrase(rest) or _adjectives(rest)
    everyone = match["plural"] is not None
    return Attribute(subject, said, place, everyone) if said and (rest or place) else None


def _existence(body: str) -> Existence | None:
    rest, place = _placed(re.sub(r"^(?:is|are) there ", "", body))
    phrase = _phrase(rest)
    return Existence(phrase, place) if phrase else None


def _placed(text: str) -> tuple[str, str | None]:
    match = _PLACED.fullmatch(text)
    return (match["rest"], match["place"]) if match else (text, None)


def _phrase(text: str) -> Phrase | None:
    match = _PHRASE.fullmatch(text)
    if match is None:
        return None
    shape = match["noun"] if match["noun"] in SHAPES else None
    return Phrase(shape, match["color"], match["size"], _COUNTS.get(match["article"] or ""))


def _adjectives(text: str) -> Phrase | None:
    match = _ADJECTIVES.fullmatch(text)
    return Phrase(None, match["color"], match["size"]) if match else None
