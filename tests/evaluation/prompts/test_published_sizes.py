"""Tests for the notes on scores that cover only part of a benchmark."""

from pathlib import Path

import pytest

from evaluation.contract import ImageSet, Prompt, PromptSet
from evaluation.metrics.compbench.categories import CATEGORIES
from evaluation.prompts import compbench, dpg, geneval, geneval2
from evaluation.prompts.limits import limit_prompts
from evaluation.prompts.published_sizes import size_notes


def notes(prompts: PromptSet) -> tuple[str, ...]:
    return size_notes(ImageSet(prompts, {}, {}))


def test_complete_benchmarks_have_no_note(published: Path) -> None:
    for prompts in (
        geneval.load_prompts(published / "geneval"),
        geneval2.load_prompts(published / "geneval2"),
        dpg.load_prompts(published / "dpg_bench"),
        *(compbench.load_prompts(published / "t2i_compbench", category) for category in CATEGORIES),
    ):
        assert notes(prompts) == ()
        total = len(prompts.prompts)
        part = limit_prompts(prompts, limit=total - 1)
        assert notes(part) == (f"Computed from only {total - 1} of the {total} prompts of {prompts.name}.",)


@pytest.mark.parametrize(
    ("name", "count", "images_each", "expected"),
    [
        ("geneval", 553, 4, ()),
        ("geneval", 553, 8, ()),
        ("geneval", 553, 1, ("Computed from only 1 of the 4 images per prompt of geneval.",)),
        ("geneval", 10, 2, ("Computed from only 10 of the 553 prompts and 2 of the 4 images per prompt of geneval.",)),
        ("t2i-compbench-color", 300, 4, ("Computed from only 4 of the 10 images per prompt of t2i-compbench-color.",)),
        ("dpg", 1065, 1, ()),  # one file may contain a grid of four images
        ("mine", 1, 1, ()),
    ],
)
def test_missing_prompts_and_images_are_stated(
    name: str, count: int, images_each: int, expected: tuple[str, ...]
) -> None:
    prompts = PromptSet(name, tuple(Prompt(str(i), "x") for i in range(count)), images_each)
    assert notes(prompts) == expected
