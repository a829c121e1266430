"""Tests for random compositions and their splits."""

from itertools import combinations, islice

import pytest

from datamodules.pictograms.catalog import CATALOG
from datamodules.pictograms.composition import (
    Composition,
    Item,
    content,
    generate_compositions,
    random_composition,
    relation,
    split_of,
)

DRAWN = [random_composition(seed) for seed in range(2000)]


def test_squares_lie_inside_the_image_and_never_overlap() -> None:
    for composition in DRAWN:
        for item in composition.items:
            assert item.side / 2 - 1e-3 <= min(item.x, item.y)
            assert max(item.x, item.y) <= 1 - item.side / 2 + 1e-3
        for a, b in combinations(composition.items, 2):
            assert max(abs(a.x - b.x), abs(a.y - b.y)) >= (a.side + b.side) / 2 - 1e-3, composition


def test_compositions_never_change() -> None:
    assert len(set(DRAWN)) == len(DRAWN)
    assert random_composition(1) == Composition(
        background="white",
        items=(
            Item(name="bicycle", x=0.2485, y=0.7566, side=0.4525),
            Item(name="bicycle", x=0.7482, y=0.751, side=0.4525),
            Item(name="fire engine", x=0.4906, y=0.2551, side=0.4525),
        ),
    )


def test_every_kind_of_composition_is_drawn_with_its_share() -> None:
    shares = {
        "one": sum(len(c.items) == 1 for c in DRAWN),
        "same": sum(len(c.groups()) == 1 and len(c.items) > 1 for c in DRAWN),
        "two": sum(len(c.items) == 2 and len(c.groups()) == 2 for c in DRAWN),
        "three": sum(len(c.items) == 3 and len(c.groups()) == 2 for c in DRAWN),
    }
    assert sum(shares.values()) == len(DRAWN)
    expected = {"one": 0.35, "same": 0.2, "two": 0.3, "three": 0.15}
    assert {name: count / len(DRAWN) for name, count in shares.items()} == pytest.approx(expected, abs=0.04)
    assert {item.name for composition in DRAWN for item in composition.items} == set(CATALOG)


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [(0.2, 0.5, "left of"), (0.8, 0.5, "right of"), (0.5, 0.2, "above"), (0.5, 0.8, "below"), (0.3, 0.9, "below")],
)
def test_relation_follows_the_longer_axis(x: float, y: float, expected: str) -> None:
    assert relation(Item("dog", x, y, 0.3), Item("cat", 0.5, 0.5, 0.3)) == expected


def test_splits_share_no_content() -> None:
    train = {content(c) for _, c in generate_compositions("train", 1500, seed=1)}
    held_out = {content(c) for _, c in generate_compositions("validation", 200, seed=1)}
    assert not train & held_out


def test_content_ignores_order_count_and_arrangement_of_two_kinds() -> None:
    dog, cat = Item("dog", 0.25, 0.5, 0.4), Item("cat", 0.75, 0.5, 0.4)
    assert content(Composition("white", (dog, cat))) == content(Composition("pink", (cat, dog, dog))) == "cat and dog"
    assert content(Composition("white", (dog, dog))) == "2 dog"
    assert content(Composition("pink", (dog,))) == "dog on pink"


def test_every_pictogram_on_white_is_for_training() -> None:
    assert {split_of(Composition("white", (Item(name, 0.5, 0.5, 0.8),))) for name in CATALOG} == {"train"}


def test_splits_never_change() -> None:
    dog, cat = Item("dog", 0.25, 0.5, 0.4), Item("cat", 0.75, 0.5, 0.4)
    # A different result would move compositions between the splits of existing data sets.
    held_out = [
        other
        for other in CATALOG
        if other != "dog" and split_of(Composition("white", (dog, Item(other, 0.75, 0.5, 0.4)))) == "validation"
    ]
    assert held_out == ["pig", "fox", "frog", "tractor", "fire engine", "bell", "tent"]
    assert split_of(Composition("white", (dog, cat))) == "train"
    first = list(islice(generate_compositions("train", 10**9, seed=3), 20))
    assert first == list(generate_compositions("train", 20, seed=3))
