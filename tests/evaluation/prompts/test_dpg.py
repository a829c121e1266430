"""Tests for DPG-Bench's prompts and questions, from small files and from the published files if available."""

import json
import os
from pathlib import Path

import pytest

from evaluation.contract import Prompt
from evaluation.metrics.dpg.questions import read_questions
from evaluation.metrics.dpg.scoring import Question
from evaluation.prompts.dpg import load_prompts
from pocketdit.errors import UserError

HEADER = (
    "item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,question_natural_language\n"
)
ROWS = """b7,"A dog, red",,1,0,entity,whole,entity - whole (dog),Is there a dog?
b7,"A dog, red",,2,1,attribute,color,"attribute - color (dog, red)","Is the dog red, or ""reddish""?"
b7,"A dog, red",,3,"1, 2",global,,global - (photo),Is it a photo?
12,A cat,,1,0,entity,whole,entity - whole (cat),Is there a cat?
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    items = [{"item_id": "12", "text": "A cat"}, {"item_id": "b7", "text": "A dog, red"}]
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, items)) + "\n")
    (tmp_path / "dpg_bench.csv").write_text(HEADER + ROWS)
    return tmp_path


def test_prompts_and_questions_keep_the_order_of_their_files(folder: Path) -> None:
    prompts = load_prompts(folder)
    assert (prompts.name, prompts.images_each) == ("dpg", 4)
    assert [(prompt.id, prompt.text) for prompt in prompts.prompts] == [("12", "A cat"), ("b7", "A dog, red")]
    assert read_questions(prompts.prompts[1]) == (
        Question(1, "Is there a dog?", "entity - whole (dog)", (0,)),
        Question(2, 'Is the dog red, or "reddish"?', "attribute - color (dog, red)", (1,)),
        Question(3, "Is it a photo?", "global - (photo)", (1, 2)),
    )
    assert [prompt.metadata["opens_file"] for prompt in prompts.prompts] == [False, True]
    assert json.loads(json.dumps(dict(prompts.prompts[1].metadata))) == prompts.prompts[1].metadata


def test_without_the_question_file_images_can_be_sampled_but_not_scored(folder: Path) -> None:
    (folder / "dpg_bench.csv").unlink()
    prompts = load_prompts(folder)
    assert len(prompts.prompts) == 2
    with pytest.raises(UserError, match=r"prompt 12 has no questions.*dpg_bench\.csv \(github\.com"):
        read_questions(prompts.prompts[0])


def test_question_file_alone_provides_the_prompts(folder: Path) -> None:
    (folder / "prompts.jsonl").unlink()
    prompts = load_prompts(folder)
    assert [(prompt.id, prompt.text) for prompt in prompts.prompts] == [("b7", "A dog, red"), ("12", "A cat")]
    assert len(read_questions(prompts.prompts[0])) == 3


def test_last_group_of_rows_is_used_if_those_of_an_item_are_not_contiguous(folder: Path) -> None:
    (folder / "dpg_bench.csv").write_text(HEADER + ROWS + "b7,x,,4,0,entity,whole,entity - part (tail),A tail?\n")
    assert [question.number for question in read_questions(load_prompts(folder).prompts[1])] == [4]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("prompts.jsonl", "", "contains no prompts"),
        ("prompts.jsonl", '{"item_id": "1"}', "line 1 is not a JSON object"),
        ("prompts.jsonl", '{"item_id": "../1", "text": "x"}', "plain file name"),
        ("prompts.jsonl", '{"item_id": "1", "text": "x"}\n' * 2, "line 2: duplicate item 1"),
        ("dpg_bench.csv", "a,b\n1,2\n", "not DPG-Bench's question file"),
        (
            "dpg_bench.csv",
            HEADER + ROWS.replace("b7,", "b8,"),
            r"no questions for 1 of the 2 prompts \(the first is b7\)",
        ),
        ("dpg_bench.csv", HEADER + "b7,A dog,,1,zero,a,b,c,d\n", "not DPG-Bench's question file"),
        ("dpg_bench.csv", HEADER + "b7,A dog,,1,0,a,b,c\n", "row 1 is truncated"),
    ],
)
def test_invalid_files_are_reported(folder: Path, name: str, text: str, message: str) -> None:
    (folder / name).write_text(text)
    with pytest.raises(UserError, match=message):
        load_prompts(folder)


def test_missing_files_are_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"prompts\.jsonl: cannot be read"):
        load_prompts(tmp_path)


@pytest.mark.parametrize("metadata", [{}, {"questions": {}, "tuples": {}, "dependencies": {}}, {"questions": 3}])
def test_metadata_without_questions_is_an_error(metadata: dict[str, object]) -> None:
    with pytest.raises(UserError, match="no questions in DPG-Bench's format"):
        read_questions(Prompt("1", "x", metadata))


@pytest.mark.skipif("POCKETDIT_EVALUATION_DATA" not in os.environ, reason="POCKETDIT_EVALUATION_DATA is not set")
def test_published_prompts() -> None:
    prompts = load_prompts(Path(os.environ["POCKETDIT_EVALUATION_DATA"]) / "dpg_bench").prompts
    assert len(prompts) == len({prompt.id for prompt in prompts}) == 1065
    assert any(prompt.id == "partiprompts97" for prompt in prompts)
