"""Answers yes/no questions about scene images with rules, in place of a published metric's language model."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import assert_never

import numpy as np

from datamodules.scenes.scene import SHAPES
from evaluation.contract import Backend, ImageArray
from evaluation.scenes.judges.colors import background_lab, color_probabilities, smooth_lab
from evaluation.scenes.judges.detector import find_objects
from evaluation.scenes.judges.judge import axis_cosine
from evaluation.scenes.judges.layout import Center, large_probability, place_probabilities, shorter_sides
from evaluation.scenes.judges.questions import (
    Attribute,
    Background,
    Existence,
    ObjectPhrase,
    Question,
    Relation,
    parse_question,
)
from evaluation.scenes.judges.shapes import shape_probabilities

_RELATION_THRESHOLD = 0.5  # cosine of 60 degrees, as in GenEval
_RELATION_SCALE = 0.04  # scale of the logistic curve around the threshold


@dataclass(frozen=True)
class _ObjectBelief:
    """The center of an object, and the probabilities of its possible shapes, colors, sizes and places."""

    shape: Mapping[str, float]
    color: Mapping[str, float]
    size: Mapping[str, float]
    place: Mapping[str, float]
    center: Center


@dataclass(frozen=True)
class _SceneBelief:
    background: Mapping[str, float]
    objects: tuple[_ObjectBelief, ...]


class SceneAnswerer:
    """Answers the questions that ``parse_question`` understands, based on the objects that ``find_objects`` detects.

    Each shape, color, size, place and relation has a probability that depends on how well it matches. Objects and their
    attributes are treated as independent. The answer is "yes" if the probability is at least 0.5.
    """

    backend = Backend("scene-rules", "1")

    def answers(self, image: ImageArray, questions: Sequence[str]) -> list[str]:
        """Return "yes" or "no" for each question.

        Raises:
            UserError: A question cannot be parsed.
        """
        return ["yes" if probability >= 0.5 else "no" for probability in self.yes_probabilities(image, questions)]

    def yes_probabilities(self, image: ImageArray, questions: Sequence[str]) -> list[float]:
        """Return, for each question, the probability that the answer is yes.

        Raises:
            UserError: A question cannot be parsed.
        """
        parsed = [parse_question(question) for question in questions]
        scene = _analyze_image(image)
        return [_yes_probability(scene, question) for question in parsed]


def _analyze_image(image: ImageArray) -> _SceneBelief:
    height, width, _ = image.shape
    detected = find_objects(image)
    sides = shorter_sides([item.center for item in detected], width, height)
    objects = []
    for item, side in zip(detected, sides, strict=True):
        large = large_probability(item.best_shape, item.area, side)
        objects.append(
            _ObjectBelief(
                shape_probabilities(item.correlations),
                color_probabilities(item.color),
                {"large": large, "small": 1 - large},
                place_probabilities(item.center, width, height),
                item.center,
            )
        )
    return _SceneBelief(color_probabilities(background_lab(smooth_lab(image))), tuple(objects))


def _yes_probability(scene: _SceneBelief, question: Question) -> float:
    match question:
        case Background(color):
            return scene.background[color]
        case Existence(phrase, place):
            fits = [_fit(item, phrase) * _place_fit(item, place) for item in scene.objects]
            return at_least_one(fits) if phrase.number is None else exactly(phrase.number, fits)
        case Attribute(subject, attributes, place, all_subjects):
            is_subject = [_fit(item, subject) for item in scene.objects]
            has_attributes = [_fit(item, attributes) * _place_fit(item, place) for item in scene.objects]
            pairs = list(zip(is_subject, has_attributes, strict=True))
            if not all_subjects:
                return at_least_one([a * b for a, b in pairs])
            return at_least_one(is_subject) * math.prod(1 - a * (1 - b) for a, b in pairs)
        case Relation(first, name, second):
            return at_least_one(
                [
                    _fit(a, first) * _fit(b, second) * _relation_fit(name, a, b)
                    for a in scene.objects
                    for b in scene.objects
                    if a is not b
                ]
            )
        case _:
            assert_never(question)


def _fit(item: _ObjectBelief, phrase: ObjectPhrase) -> float:
    return (
        (sum(item.shape[shape] for shape in SHAPES) if phrase.shape is None else item.shape[phrase.shape])
        * (1.0 if phrase.color is None else item.color[phrase.color])
        * (1.0 if phrase.size is None else item.size[phrase.size])
    )


def _place_fit(item: _ObjectBelief, place: str | None) -> float:
    return 1.0 if place is None else item.place[place]


def _relation_fit(name: str, first: _ObjectBelief, second: _ObjectBelief) -> float:
    cosine = axis_cosine(name, first.center, second.center)
    return 0.5 * (1 + math.tanh((cosine - _RELATION_THRESHOLD) / (2 * _RELATION_SCALE)))


def at_least_one(probabilities: Sequence[float]) -> float:
    """Return the probability that at least one of several independent events happens."""
    return 1 - math.prod(1 - p for p in probabilities)


def exactly(number: int, probabilities: Sequence[float]) -> float:
    """Return the probability that exactly ``number`` of several independent events happen (Poisson binomial)."""
    distribution = np.zeros(number + 2)  # the last entry is the probability of more than ``number``
    distribution[0] = 1
    for p in probabilities:
        happens = distribution * p
        distribution = distribution - happens
        distribution[1:] += happens[:-1]
        distribution[-1] += happens[-1]
    return float(distribution[number])
