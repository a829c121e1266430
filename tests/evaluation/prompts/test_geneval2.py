"""Tests for GenEval 2's prompts, from a small file and from the published file if available."""

import json
from pathlib import Path
from typing import Any

import pytest

from evaluation.metrics.geneval2.soft_tifa import spellings
from evaluation.prompts.geneval2 import GenEval2Prompts, load_prompts
from pocketdit.errors import UserError

ROW: dict[str, Any] = {
    "prompt": "two red kites",
    "atom_count": 3,
    "vqa_list": [["How many kites?", "two"], ["Are the kites red?", "Yes"], ["Are there kites?", "Yes"]],
    "skills": ["count", "attribute", "object"],
}


def test_prompts_have_questions_and_skills(tmp_path: Path) -> None:
    (tmp_path / "geneval2").mkdir()
    rows = [ROW, {**ROW, "prompt": "another"}]
    (tmp_path / "geneval2" / "geneval2_data.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    prompts = GenEval2Prompts(tmp_path).load()
    assert (prompts.name, prompts.images_each) == ("geneval2", 1)
    assert [(prompt.id, prompt.text) for prompt in prompts.prompts] == [
        ("00000", "two red kites"),
        ("00001", "another"),
    ]
    assert prompts.prompts[0].metadata == ROW
    assert len(GenEval2Prompts(tmp_path, limit=1).load().prompts) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"skills": ["count"]},
        {"vqa_list": []},
        {"vqa_list": [["How many?"]] * 3},
        {"vqa_list": [["How many?", 2]] * 3},
        {"atom_count": "3"},
        {"prompt": None},
        None,
    ],
)
def test_invalid_lines_are_errors(change: dict[str, Any] | None, tmp_path: Path) -> None:
    text = "{" if change is None else json.dumps({**ROW, **change})
    (tmp_path / "geneval2_data.jsonl").write_text(f"{json.dumps(ROW)}\n{text}\n")
    with pytest.raises(UserError, match="line 2 is not a GenEval 2 prompt; get it from https://"):
        load_prompts(tmp_path)


def test_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"geneval2_data\.jsonl: cannot be read .* get it from https://"):
        load_prompts(tmp_path)


def test_published_prompts(published: Path) -> None:
    """There are 100 prompts for each number of atoms from 3 to 10, and every answer has known spellings."""
    prompts = load_prompts(published / "geneval2").prompts
    counts = [prompt.metadata["atom_count"] for prompt in prompts]
    assert {count: counts.count(count) for count in set(counts)} == dict.fromkeys(range(3, 11), 100)
    skills = {skill for prompt in prompts for skill in prompt.metadata["skills"]}
    assert skills == {"object", "attribute", "count", "position", "verb"}
    assert all(spellings(question, answer) for prompt in prompts for question, answer in prompt.metadata["vqa_list"])
