"""The words of short captions, shared by what is drawn and what is asked for."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

NUMBER_WORDS = {2: "two", 3: "three", 4: "four"}

# By thirds of the picture: (row, column).
PLACES = (
    ("in the top left", "at the top", "in the top right"),
    ("on the left", "in the center", "on the right"),
    ("in the bottom left", "at the bottom", "in the bottom right"),
)


class OptionalDetails(NamedTuple):
    """What a short caption tells although it is the usual: a large size, a white background, the center."""

    sized: bool
    background: bool
    place: bool


def random_details(rng: np.random.Generator, share: float = 0.12) -> OptionalDetails:
    """Each in ``share`` of captions, independently."""
    size, background, place = rng.random(3) < share
    return OptionalDetails(bool(size), bool(background), bool(place))


def singular(shape: str, color: str, size: str = "") -> str:
    """a red circle; an orange circle; a small red circle"""
    words = f"{size} {color}".strip()
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words} {shape}"


def plural(count: int, shape: str, color: str, size: str = "") -> str:
    """two red circles; three small red crosses"""
    plural = f"{shape}es" if shape.endswith("s") else f"{shape}s"
    return f"{NUMBER_WORDS[count]} {f'{size} {color}'.strip()} {plural}"


def join_phrases(parts: Sequence[str]) -> str:
    """a; a and b; a, b and c"""
    return f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else parts[0]


def with_background(phrase: str, background: str) -> str:
    """a red circle on a grey background"""
    return f"{phrase} on a {background} background"
