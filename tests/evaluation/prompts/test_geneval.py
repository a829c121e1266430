"""Tests for GenEval's prompts, from small files and from the published file if available."""

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from evaluation.contract import COLORS
from evaluation.judges.mask2former import OBJECTS
from evaluation.prompts.geneval import FILE, load_prompts
from pocketdit.errors import UserError

DATA = os.environ.get("POCKETDIT_EVALUATION_DATA")

LINE = {"tag": "single_object", "include": [{"class": "bench", "count": 1}], "prompt": "a photo of a bench"}
FORWARD_REFERENCE = {**LINE, "include": [{"class": "bench", "count": 1, "position": ["above", 0]}]}


def test_lines_become_prompts(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(f"{json.dumps(LINE)}\n{json.dumps(LINE | {'prompt': 'a bench'})}\n")
    prompts = load_prompts(tmp_path)
    assert (prompts.name, prompts.images_each) == ("geneval", 4)
    assert [(prompt.id, prompt.text) for prompt in prompts.prompts] == [
        ("00000", "a photo of a bench"),
        ("00001", "a bench"),
    ]
    assert prompts.prompts[0].metadata == LINE


@pytest.mark.parametrize(
    "line", ["{", "[]", "{}", '"x"', json.dumps(LINE | {"include": [{"class": "cup"}]}), json.dumps(FORWARD_REFERENCE)]
)
def test_invalid_line_is_reported(tmp_path: Path, line: str) -> None:
    (tmp_path / FILE).write_text(f"{json.dumps(LINE)}\n{line}\n")
    with pytest.raises(UserError, match="line 2 is not a GenEval prompt"):
        load_prompts(tmp_path)


def test_missing_or_empty_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        load_prompts(tmp_path)
    (tmp_path / FILE).write_text("\n")
    with pytest.raises(UserError, match="contains no prompts"):
        load_prompts(tmp_path)


@pytest.mark.skipif(DATA is None, reason="POCKETDIT_EVALUATION_DATA is not set")
def test_published_file() -> None:
    folder = Path(str(DATA)) / "geneval"
    prompts = load_prompts(folder).prompts
    assert (prompts[0].id, prompts[-1].id) == ("00000", "00552")
    assert Counter(prompt.metadata["tag"] for prompt in prompts) == {
        "single_object": 80,
        "two_object": 99,
        "counting": 80,
        "colors": 94,
        "position": 100,
        "color_attr": 100,
    }
    assert list(OBJECTS) == (folder / "object_names.txt").read_text().splitlines()
    clauses = [clause for prompt in prompts for clause in prompt.metadata["include"]]
    assert {clause["class"] for clause in clauses} <= set(OBJECTS)
    assert {clause["color"] for clause in clauses if "color" in clause} <= set(COLORS)
