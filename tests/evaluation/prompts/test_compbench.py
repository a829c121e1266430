"""Tests for T2I-CompBench's prompts, from a small folder and from the published files if available."""

from collections import Counter
from pathlib import Path

import pytest

from evaluation.judges.rule_chunks import rule_chunks
from evaluation.metrics.compbench.categories import CATEGORIES
from evaluation.prompts.compbench import load_prompts
from pocketdit.errors import UserError


def test_prompts_are_read_from_a_folder(compbench_folder: Path) -> None:
    prompts = load_prompts(compbench_folder, "color")
    assert (prompts.name, prompts.images_each) == ("t2i-compbench-color", 10)
    assert [(p.id, p.text) for p in prompts.prompts] == [
        ("color-0000", "a green bench and a blue bowl"),
        ("color-0001", "a blue bench and a green bowl"),
    ]
    assert [p.metadata for p in prompts.prompts] == [{"category": "color"}] * 2
    assert [p.text for p in load_prompts(compbench_folder, "non_spatial").prompts] == [
        "A person is looking at a rainbow."
    ]


def test_metadata_contains_what_scorers_need(compbench_folder: Path) -> None:
    spatial, numeracy, complex_ = (
        load_prompts(compbench_folder, c).prompts for c in ("spatial", "numeracy", "complex")
    )
    assert spatial[0].metadata["relation"] == {"first": "circle", "relation": "on the left of", "second": "square"}
    assert numeracy[0].metadata["objects"] == {"mouse": 2}
    assert numeracy[1].metadata["objects"] == {"book": 1, "fish": 3, "man": 2}
    assert [p.metadata["kind"] for p in complex_] == ["spatial", "action", "spatialaction"]
    assert [p.metadata["relation"] for p in complex_] == [
        {"first": "red circle", "relation": "on the left of", "second": "blue square"},
        None,
        {"first": "vase", "relation": "near", "second": "cup"},
    ]


@pytest.mark.parametrize(
    ("category", "name", "text", "message"),
    [
        ("color", "color_val.txt", None, "cannot be read.*examples/dataset"),
        ("color", "color_val.txt", "\n", "contains no prompts"),
        ("spatial", "spatial_val.txt", "a cat and a dog", "'a cat and a dog' does not contain two objects"),
        ("spatial", "spatial_val.txt", "next to a dog", "does not contain two objects"),
        ("numeracy", "numeracy_val.txt", "three burgers", "does not contain a number"),
        ("numeracy", "new_objects.txt", None, "new_objects.txt: cannot be read"),
        ("numeracy", "new_objects.txt", "mouse, mice", 'line 1 is .*expected the format "mouse - mice"'),
        (
            "complex",
            "complex_val_action.txt",
            "The dog slept.",
            "'The cat slept.' must be listed in exactly one of",
        ),
        ("complex", "complex_val_action.txt", "The cat slept.\nThe vase sat near the cup.", "action and spatialaction"),
        ("3d", "", None, "category must be one of .*numeracy, not '3d'"),
    ],
)
def test_invalid_folders_are_reported(
    compbench_folder: Path, category: str, name: str, text: str | None, message: str
) -> None:
    if text is not None:
        (compbench_folder / name).write_text(text)
    elif name:
        (compbench_folder / name).unlink()
    with pytest.raises(UserError, match=message):
        load_prompts(compbench_folder, category)


def test_published_prompts(published: Path) -> None:
    folder = published / "t2i_compbench"
    sets = {category: load_prompts(folder, category).prompts for category in CATEGORIES}
    assert {category: len(prompts) for category, prompts in sets.items()} == dict.fromkeys(CATEGORIES, 300)
    assert len({prompt.id for prompts in sets.values() for prompt in prompts}) == 7 * 300
    assert Counter(p.metadata["kind"] for p in sets["complex"]) == {"action": 212, "spatial": 58, "spatialaction": 30}
    # One spatialaction prompt does not contain a relation.
    with_relation = Counter(p.metadata["kind"] for p in sets["complex"] if p.metadata["relation"])
    assert (with_relation["spatial"], with_relation["spatialaction"]) == (58, 29)
    for prompt in sets["spatial"]:
        first, relation, second = prompt.metadata["relation"].values()
        rest = prompt.text.removeprefix("a ").removeprefix("an ")
        assert rest in (f"{first} {relation} a {second}", f"{first} {relation} an {second}")
    for category in ("color", "shape", "texture", "complex"):
        assert all(rule_chunks(prompt.text) for prompt in sets[category])


def test_numbers_in_published_prompts_are_parsed(published: Path) -> None:
    prompts = load_prompts(published / "t2i_compbench", "numeracy").prompts
    counts = {prompt.text: prompt.metadata["objects"] for prompt in prompts}
    assert counts["three camels shared a burger"] == {"camel": 3}
    assert counts["four bananas, four horses, and three cups were on the picnic table"] == {
        "banana": 4,
        "horse": 4,
        "cup": 3,
    }
    assert counts["two sheep, four dogs, three candles, and three bees created a warm atmosphere"] == {
        "sheep": 2,
        "dog": 4,
        "candle": 3,
        "bee": 3,
    }
    # Each of the first 75 prompts names one object.
    assert [len(prompt.metadata["objects"]) for prompt in prompts[:75]] == [1] * 75
