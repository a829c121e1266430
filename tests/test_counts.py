"""Tests that a noun is in the singular or plural, depending on its number."""

import pytest

from pocketdit.counts import counted


@pytest.mark.parametrize(
    ("number", "noun", "plural", "expected"),
    [
        (0, "image", "", "0 images"),
        (1, "image", "", "1 image"),
        (2, "sampling step", "", "2 sampling steps"),
        (1, "process", "processes", "1 process"),
        (3, "process", "processes", "3 processes"),
    ],
)
def test_the_noun_agrees_with_the_number(number: int, noun: str, plural: str, expected: str) -> None:
    assert counted(number, noun, plural) == expected
