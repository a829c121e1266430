"""Tests that the captions of 800 scenes are true, can be parsed without loss, and have exact annotations.

To check that a caption is true, the tests parse it independently of the code that writes captions.
"""

import json
import re
from collections import Counter
from typing import Any

import pytest

from datamodules.scenes.captions import annotate_scene, caption_scene, scene_from_annotations, short_caption
from datamodules.scenes.expectation import parse_expectation
from datamodules.scenes.scene import BACKGROUNDS, Object, Scene, random_scene
from pocketdit.errors import UserError

SAMPLES = [(scene := random_scene(seed), caption_scene(scene, seed)) for seed in range(800)]
COUNTS = {"a": 1, "an": 1, "two": 2, "three": 3, "four": 4}


def matching_objects(scene: Scene, words: list[str]) -> list[Object]:
    """Return the objects that a phrase such as "three small red crosses" can refer to."""
    *attributes, shape = words
    return [
        item
        for item in scene.objects
        if shape in (item.shape, f"{item.shape}s", f"{item.shape}es")
        and all(word in (item.color, item.size) for word in attributes)
    ]


def is_in_place(scene: Scene, item: Object, place: str) -> bool:
    x, y = 3 * item.x / scene.width, 3 * item.y / scene.height
    column = 0 if "left" in place else 2 if "right" in place else 1
    row = 0 if "top" in place else 2 if "bottom" in place else 1
    return column <= x <= column + 1 and row <= y <= row + 1


def relation_is_true(first: Object, relation: str, second: Object) -> bool:
    return {
        "left of": first.x < second.x,
        "right of": first.x > second.x,
        "above": first.y < second.y,
        "below": first.y > second.y,
    }[relation]


PHRASE = r"(an?|two|three|four) ((?:small |large )?\w+ (?:circle|square|triangle|star|cross)(?:e?s)?)"
PLACE = r"((?:in|at|on) the (?:top|bottom|left|right|center)(?: left| right)?)"


def test_short_captions_are_true_and_unambiguous() -> None:
    for scene, (short, _) in SAMPLES:
        phrases = re.findall(PHRASE, short)
        referred = [matching_objects(scene, words.split()) for _, words in phrases]
        assert [len(items) for items in referred] == [COUNTS[number] for number, _ in phrases], short
        assert sum(map(len, referred)) == len(scene.objects), short
        if relation := re.search("left of|right of|above|below", short):
            assert relation_is_true(referred[0][0], relation[0], referred[1][0]), short
        elif place := re.search(PLACE, short):
            assert is_in_place(scene, referred[0][0], place[1]), short
        if background := re.search(r"on a (\w+) background", short):
            assert background[1] == scene.background, short


def test_long_captions_are_true_and_complete() -> None:
    for scene, (_, long) in SAMPLES:
        assert 2 <= long.count(".") <= 5, long
        assert len(long.split()) <= 70, long
        assert f"plain {scene.background} background" in long
        text = long.lower()
        placed = re.findall(rf"{PHRASE} (?:is )?{PLACE}", text)
        if len({item.kind for item in scene.objects}) > 1 or len(scene.objects) == 1:
            assert len(placed) == len(scene.objects), long
            for _, words, place in placed:
                (item,) = matching_objects(scene, words.split())
                assert is_in_place(scene, item, place), long
                assert item.size in words, long
        else:
            assert re.findall(PHRASE, text)[0][0] in ("two", "three", "four")
            places = re.findall(rf"one (?:is )?{PLACE}", text)
            assert len(places) == len(scene.objects)
            assert all(is_in_place(scene, i, p) for i, p in zip(scene.objects, places, strict=True)), long
        relations = re.findall(r"the (\w+ \w+) is (left of|right of|above|below) the (\w+ \w+)", text)
        for first, relation, second in relations:
            (a,), (b,) = matching_objects(scene, first.split()), matching_objects(scene, second.split())
            assert relation_is_true(a, relation, b), long


def test_short_captions_mention_everything_that_differs_from_the_defaults() -> None:
    for scene, (short, _) in SAMPLES:
        assert ("grey background" in short) == (scene.background == "grey"), short
        phrases = re.findall(PHRASE, short)
        small = sum(COUNTS[number] for number, words in phrases if words.startswith("small"))
        assert small == sum(item.size == "small" for item in scene.objects), short
        if len(scene.objects) == 1:
            assert is_in_place(scene, scene.objects[0], place[1] if (place := re.search(PLACE, short)) else "center"), (
                short
            )
        elif len(phrases) == 2 and not re.search("left of|right of|above|below", short):
            first, second = (matching_objects(scene, words.split())[0] for _, words in phrases)
            tall = scene.height > scene.width
            assert relation_is_true(first, "above" if tall else "left of", second), short
            assert abs(first.y - second.y) > 30 if tall else abs(first.x - second.x) > 30, short


def test_some_short_captions_mention_defaults() -> None:
    for words in ("large", "in the center", "on a white background", "left of"):
        assert 0.01 < sum(words in short for _, (short, _) in SAMPLES) / len(SAMPLES) < 0.2
    tags = Counter(parse_expectation(short)["tag"] for _, (short, _) in SAMPLES)
    assert set(tags) == {"single_object", "color_attr", "position", "counting"}
    assert min(tags.values()) > 80


def test_captions_depend_on_the_seed_only() -> None:
    for seed, (scene, texts) in enumerate(SAMPLES[:50]):
        assert caption_scene(scene, seed) == texts
        assert short_caption(scene, seed) == texts[0]
    scene = next(scene for scene, _ in SAMPLES if len({item.kind for item in scene.objects}) == 2)
    assert len({short_caption(scene, seed) for seed in range(30)}) > 2


def test_expectation_counts_the_objects_of_the_scene() -> None:
    for scene, (short, _) in SAMPLES:
        expectation = parse_expectation(short)
        assert expectation["prompt"] == short
        expected = Counter({(e["class"], e["color"]): e["count"] for e in expectation["include"]})
        assert expected == Counter(item.kind for item in scene.objects)


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        (
            "a small red circle left of an orange square",
            {
                "tag": "position",
                "include": [
                    {"class": "square", "count": 1, "color": "orange"},
                    {"class": "circle", "count": 1, "color": "red", "position": ["left of", 0]},
                ],
            },
        ),
        (
            "three green crosses on a grey background",
            {
                "tag": "counting",
                "include": [{"class": "cross", "count": 3, "color": "green"}],
                "exclude": [{"class": "cross", "count": 4, "color": "green"}],
            },
        ),
        (
            "a pink star in the top left on a grey background",
            {"tag": "single_object", "include": [{"class": "star", "count": 1, "color": "pink"}]},
        ),
        (
            "a pink star and a blue star",
            {
                "tag": "color_attr",
                "include": [
                    {"class": "star", "count": 1, "color": "pink"},
                    {"class": "star", "count": 1, "color": "blue"},
                ],
            },
        ),
    ],
)
def test_expectations_of_known_captions(caption: str, expected: dict[str, Any]) -> None:
    assert parse_expectation(caption) == {**expected, "prompt": caption}


@pytest.mark.parametrize("caption", ["", "a cat", "a red circle near a blue square", "two red circle", "a red circles"])
def test_caption_of_another_form_is_rejected(caption: str) -> None:
    with pytest.raises(UserError, match="does not have the form"):
        parse_expectation(caption)


def test_annotations_restore_the_scene_through_json() -> None:
    for scene, (short, _) in SAMPLES:
        record = json.loads(json.dumps(annotate_scene(scene, short)))
        assert scene_from_annotations(record) == scene
        assert record["geneval"]["prompt"] == short
        assert record["background"] in BACKGROUNDS
        for item in record["objects"]:
            left, top, right, bottom = item["box"]
            assert 0 < left < item["x"] < right < scene.width
            assert 0 < top < item["y"] < bottom < scene.height
