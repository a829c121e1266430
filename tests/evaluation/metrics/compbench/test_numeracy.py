"""Tests for the numeracy score: parsed prompts, hand-computed counts, and rendered scenes."""

from collections.abc import Callable
from pathlib import Path

import pytest

from evaluation.contract import ImageArray, Prompt
from evaluation.metrics.compbench.numeracy import (
    Numeracy,
    count_objects,
    numeracy_score,
    parse_counts,
    read_vocabulary,
    without_duplicates,
)
from evaluation.scenes.judges.detector import SceneDetector
from pocketdit.errors import ConfigError, UserError

VOCABULARY = {"circle": "circle", "circles": "circle", "mice": "mouse", "mouse": "mouse", "table": "table"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("two circles", {"circle": 2}),
        ("Two circles, a mouse, and eight mice sat on the table", {"circle": 2, "mouse": 9}),
        ("an ant near one circle", {"circle": 1}),
        ("two red circles", {}),
        ("the circles", {}),
        ("ten mice", {"mouse": 10}),
    ],
)
def test_numbers_before_known_objects_are_parsed(text: str, expected: dict[str, int]) -> None:
    assert parse_counts(text, VOCABULARY) == expected


def test_vocabulary_contains_singular_and_plural(compbench_folder: Path) -> None:
    names = read_vocabulary(compbench_folder / "new_objects.txt")
    assert (names["mice"], names["mouse"], names["fish"], len(names)) == ("mouse", "mouse", "fish", 9)


def test_published_vocabulary(published: Path) -> None:
    names = read_vocabulary(published / "t2i_compbench" / "new_objects.txt")
    assert (names["people"], names["women"], names["deer"], names["knives"]) == ("person", "woman", "deer", "knife")


@pytest.mark.parametrize(
    ("expected", "detected", "score"),
    [
        ({"a": 2}, {"a": 2}, 1.0),
        ({"a": 2}, {"a": 3}, 0.5),
        ({"a": 2}, {"a": 0}, 0.0),
        ({"a": 2}, {}, 0.0),
        ({"a": 2, "b": 1}, {"a": 2, "b": 4}, 0.75),
        ({"a": 1, "b": 1, "c": 1}, {"a": 1, "c": 2}, 0.5),
    ],
)
def test_presence_and_number_have_equal_weights(
    expected: dict[str, int], detected: dict[str, int], score: float
) -> None:
    assert numeracy_score(expected, detected) == pytest.approx(score)


@pytest.mark.parametrize(
    ("second", "names"),
    [
        (("cat", (0, 0, 99, 99)), ["cat"]),
        (("dog", (0, 0, 99, 99)), ["cat", "dog"]),
        (("cat", (0, 0, 99, 89)), ["cat"]),  # the first box covers this box completely
        (("cat", (0, 9, 99, 108)), ["cat"]),  # the two boxes share 91 of their 100 rows
        (("cat", (0, 10, 99, 109)), ["cat", "cat"]),  # the two boxes share 90 of 100 rows, not more than 0.9
        (("cat", (10, 10, 19, 19)), ["cat"]),  # inside the first box, although the intersection over union is small
        (("cat", (60, 60, 159, 159)), ["cat", "cat"]),
        (("cat", (200, 0, 299, 99)), ["cat", "cat"]),
    ],
)
def test_duplicates_are_counted_once(second: tuple[str, tuple[int, ...]], names: list[str]) -> None:
    """Boxes include both end pixels, so the first box has 100x100 pixels."""
    assert without_duplicates([("cat", (0, 0, 99, 99)), second]) == names


def test_a_duplicate_of_a_dropped_box_may_be_kept() -> None:
    """Each box is compared only with the boxes that have been kept, so the order matters."""
    chain = [("cat", (x, 0, x + 99, 99)) for x in (0, 8, 16)]
    assert without_duplicates(chain) == ["cat", "cat"]
    assert without_duplicates([chain[1], chain[0], chain[2]]) == ["cat"]


@pytest.mark.parametrize(
    ("asked", "names", "counts"),
    [
        (["boy", "ship"], ["person", "boat", "boat"], [1, 2]),
        (["boy", "girl"], ["person", "person"], [2, 2]),
        (["telivision", "goldfish", "painting"], ["tv", "fish", "picture", "goldfish"], [1, 1, 1]),
        (["clock"], ["alarm clock", "clock"], [1]),
        (["clock"], ["alarm clock", "wall clock"], [2]),
        # "alarm clock" contains both names, and counts only for the first object.
        (["clock", "alarm"], ["alarm clock"], [1, 0]),
        (["alarm", "clock"], ["alarm clock"], [1, 0]),
        (["bee"], ["frisbee"], [1]),
        (["boy"], ["boy"], [0]),
    ],
)
def test_names_are_matched_in_the_order_of_the_prompt(asked: list[str], names: list[str], counts: list[int]) -> None:
    assert count_objects(asked, names) == dict(zip(asked, counts, strict=True))


def test_objects_are_counted_by_a_detector(render_objects: Callable[..., ImageArray]) -> None:
    image = render_objects(("circle", "red", 30, 30), ("circle", "blue", 90, 30), ("star", "red", 60, 95))
    scorer = Numeracy(SceneDetector())
    for expected, score in (
        ({"circle": 2}, 1.0),
        ({"circle": 3}, 0.5),
        ({"circle": 2, "star": 2}, 0.75),
        ({"square": 1, "star": 1}, 0.5),
        ({"cross": 1}, 0.0),
    ):
        assert scorer.score([image, render_objects()], Prompt("x", "", {"objects": expected})) == [
            pytest.approx(score),
            0,
        ]
    assert Numeracy(SceneDetector(), 1.0).score([image], Prompt("x", "", {"objects": {"circle": 2}})) == [0]


def test_wrong_use_is_reported() -> None:
    with pytest.raises(ConfigError, match="threshold must be a detection score between 0 and 1, not -1"):
        Numeracy(SceneDetector(), -1)
    with pytest.raises(UserError, match="the metadata of prompt x has no counted objects"):
        Numeracy(SceneDetector()).score([], Prompt("x", "two circles"))
