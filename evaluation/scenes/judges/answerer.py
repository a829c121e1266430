"""Answers to yes/no questions about drawn scenes by rules: a stand-in where a language model would judge."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import assert_never

import numpy as np

from datamodules.scenes.scene import SHAPES
from evaluation.contract import Backend, ImageArray
from evaluation.scenes.judges.colors import background_lab, color_probabilities, smooth_lab
from evaluation.scenes.judges.detector import find_objects
from evaluation.scenes.judges.judge import axis_share
from evaluation.scenes.judges.layout import Center, large_probability, place_probabilities, shorter_sides
from evaluation.scenes.judges.questions import (
    Attribute,
    Background,
    Existence,
    Phrase,
    Question,
    Relation,
    parse_question,
)
from evaluation.scenes.judges.shapes import shape_probabilities

_RELATION_EDGE, _RELATION_DOUBT = 0.5, 0.04  # of the cosine: GenEval's 60 degrees, and the scale of the doubt


@dataclass(frozen=True)
class _Object:
    """Probabilities of what one object is: of its words by kind of word, and its place."""

    shape: Mapping[str, float]
    color: Mapping[str, float]
    size: Mapping[str, float]
    place: Mapping[str, float]
    center: Center


@dataclass(frozen=True)
class _View:
    background: Mapping[str, float]
    objects: tuple[_Object, ...]


class SceneAnswerer:
    """Reads the questions of ``evaluation.scenes.judges.questions`` and answers from what ``find_objects`` finds.

    Shape, colour, size, place and relation each have a probability from how well they fit, and objects and their
    attributes are taken as independent; "yes" is from 0.5 on.

    Raises (both methods):
        UserError: a question is not of a form that the rules can read.
    """

    backend = Backend("scene-rules", "1")

    def answers(self, picture: ImageArray, questions: Sequence[str]) -> list[str]:
        return ["yes" if value >= 0.5 else "no" for value in self.yes_probabilities(picture, questions)]

    def yes_probabilities(self, picture: ImageArray, questions: Sequence[str]) -> list[float]:
        read = [parse_question(question) for question in questions]
        view = _view(picture)
        return [_probability(view, question) for question in read]


def _view(picture: ImageArray) -> _View:
    height, width, _ = picture.shape
    found = find_objects(picture)
    sides = shorter_sides([item.center for item in found], width, height)
    objects = []
    for item, side in zip(found, sides, strict=True):
        large = large_probability(item.likeliest, item.area, side)
        objects.append(
            _Object(
                shape_probabilities(item.correlations),
                color_probabilities(item.color),
                {"large": large, "small": 1 - large},
                place_probabilities(item.center, width, height),
                item.center,
            )
        )
    return _View(color_probabilities(background_lab(smooth_lab(picture))), tuple(objects))


def _probability(view: _View, question: Question) -> float:
    match question:
        case Background(color):
            return view.background[color]
        case Existence(phrase, place):
            each = [_fits(item, phrase) * _stands(item, place) for item in view.objects]
            return at_least_one(each) if phrase.number is None else exactly(phrase.number, each)
        case Attribute(subject, said, place, everyone):
            are = [_fits(item, subject) for item in view.objects]
            have = [_fits(item, said) * _stands(item, place) for item in view.objects]
            if not everyone:
                return at_least_one([a * b for a, b in zip(are, have, strict=True)])
            others = [1 - a * (1 - b) for a, b in zip(are, have, strict=True)]
            return at_least_one(are) * math.prod(others)
        case Relation(first, name, second):
            return at_least_one(
                [
                    _fits(a, first) * _fits(b, second) * _holds(name, a, b)
                    for a in view.objects
                    for b in view.objects
                    if a is not b
                ]
            )
        case _:
            assert_never(question)


def _fits(item: _Object, phrase: Phrase) -> float:
    return (
        (sum(item.shape[shape] for shape in SHAPES) if phrase.shape is None else item.shape[phrase.shape])
        * (1.0 if phrase.color is None else item.color[phrase.color])
        * (1.0 if phrase.size is None else item.size[phrase.size])
    )


def _stands(item: _Object, place: str | None) -> float:
    return 1.0 if place is None else item.place[place]


def _holds(name: str, first: _Object, second: _Object) -> float:
    share = axis_share(name, first.center, second.center)
    return 0.5 * (1 + math.tanh((share - _RELATION_EDGE) / (2 * _RELATION_DOUBT)))


def at_least_one(probabilities: Sequence[float]) -> float:
    """Of independent events."""
    return 1 - math.prod(1 - p for p in probabilities)


def exactly(number: int, probabilities: Sequence[float]) -> float:
    """That exactly so many of independent events happen (the Poisson binomial distribution)."""
    of_number = np.zeros(number + 2)  # the last entry: more
    of_number[0] = 1
    for p in probabilities:
        moved = of_number * p
        of_number = of_number - moved
        of_number[1:] += moved[:-1]
        of_number[-1] += moved[-1]
    return float(of_number[number])
