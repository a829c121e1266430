"""The vocabulary and grammar of short captions, shared by training captions and evaluation prompts."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

NUMBER_WORDS = {2: "two", 3: "three", 4: "four"}

# Phrases for the cells of a 3x3 grid over the image: PLACES[row][column].
PLACES = (
    ("in the top left", "at the top", "in the top right"),
    ("on the left", "in the center", "on the right"),
    ("in the bottom left", "at the bottom", "in the bottom right"),
)


class OptionalDetails(NamedTuple):
    """Which defaults a short caption mentions: a large size, a white background, or a place in the center."""

    size: bool
    background: bool
    place: bool


def random_details(rng: np.random.Generator, probability: float = 0.12) -> OptionalDetails:
    """Draw the details to mention. Each detail is mentioned with the given probability, independently of the others."""
    size, background, place = rng.random(3) < probability
    return OptionalDetails(bool(size), bool(background), bool(place))


def singular(shape: str, color: str, size: str = "") -> str:
    """Return a phrase such as "a red circle", "an orange circle" or "a small red circle"."""
    words = f"{size} {color}".strip()
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words} {shape}"


def plural(count: int, shape: str, color: str, size: str = "") -> str:
    """Return a phrase such as "two red circles" or "three small red crosses"."""
    noun = f"{shape}es" if shape.endswith("s") else f"{shape}s"
    return f"{NUMBER_WORDS[count]} {f'{size} {color}'.strip()} {noun}"


def join_phrases(phrases: Sequence[str]) -> str:
    """Join phrases, as in "a", "a and b", or "a, b and c"."""
    return f"{', '.join(phrases[:-1])} and {phrases[-1]}" if len(phrases) > 1 else phrases[0]


def with_background(phrase: str, background: str) -> str:
    """Return a phrase such as "a red circle on a grey background"."""
    return f"{phrase} on a {background} background"
