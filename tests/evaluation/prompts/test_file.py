"""Tests for a user's prompt files in all supported formats."""

import json
from pathlib import Path

import pytest

from evaluation.prompts.file import PromptFile
from pocketdit.errors import ConfigError, UserError


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.txt", "a cat\n\na dog\n"),
        ("p.jsonl", '{"prompt": "a cat"}\n{"prompt": "a dog"}\n'),
        ("p.csv", "prompt\na cat\na dog\n"),
        ("p.tsv", "\ufeffPrompt\tCategory\na cat\tAnimals\na dog\tAnimals\n"),
    ],
)
def test_all_formats_are_read(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    prompts = PromptFile(tmp_path / name, images_each=3).load()
    assert [(p.id, p.text) for p in prompts.prompts] == [("00000", "a cat"), ("00001", "a dog")]
    assert prompts.images_each == 3
    assert prompts.name == "p"
    assert len(PromptFile(tmp_path / name, limit=1).load().prompts) == 1


def texts(path: Path, content: str) -> dict[str, str]:
    """Write a file of prompts, read it, and return a mapping from prompt IDs to texts."""
    path.write_text(content, encoding="utf-8", newline="")
    return {prompt.id: prompt.text for prompt in PromptFile(path).load().prompts}


def test_only_line_feeds_separate_prompts(tmp_path: Path) -> None:
    """Form feeds and Unicode's line separators are characters of a prompt."""
    odd = "a cat\x0con\x85a\u2028mat"
    assert texts(tmp_path / "p.txt", f"{odd}\r\n\r\na dog\n") == {"00000": odd, "00001": "a dog"}
    rows = [json.dumps({"prompt": text}, ensure_ascii=False) for text in (odd, "a dog")]
    assert texts(tmp_path / "p.jsonl", "\n".join(rows)) == {"00000": odd, "00001": "a dog"}
    assert texts(tmp_path / "p.csv", f"prompt\n{odd}\n\na dog\n") == {"00000": odd, "00001": "a dog"}


def test_quoted_fields_may_contain_line_breaks_and_delimiters(tmp_path: Path) -> None:
    expected = {"1": "a cat,\n\na dog", "2": 'a sign "hi"'}
    for name, delimiter in (("p.csv", ","), ("p.tsv", "\t")):
        content = 'id,prompt\r\n1,"a cat§\r\n\r\na dog"\r\n2,"a sign ""hi"""\r\n'.replace(",", delimiter)
        assert texts(tmp_path / name, content.replace("§", ",")) == expected


def test_quotes_in_tab_separated_files_may_be_plain_characters(tmp_path: Path) -> None:
    content = 'Prompt\tCategory\n"G I G" in thick letters\tWriting\na "red" cat\tAnimals\n"open\tAnimals\n'
    assert list(texts(tmp_path / "p.tsv", content).values()) == ['"G I G" in thick letters', 'a "red" cat', '"open']


def test_published_prompts_are_read_as_they_are(published: Path) -> None:
    """The expected prompts are obtained by splitting the file only at tabs and line feeds."""
    path = published / "parti" / "PartiPrompts.tsv"
    rows = path.read_text(encoding="utf-8").rstrip("\n").split("\n")[1:]
    assert len(rows) == 1632
    assert [prompt.text for prompt in PromptFile(path).load().prompts] == [row.split("\t")[0] for row in rows]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.csv", 'id,prompt\n1,"a" sign\n', "misplaced quotes after line 1"),
        ("p.csv", 'id,prompt\n1,"open\n2,last\n', "misplaced quotes"),
        ("p.csv", "prompt,id\na cat\n", "prompt 1 has no id"),
        ("p.csv", "id,prompt\n,a cat\n", "prompt 1 has no id"),
        ("p.jsonl", '{"id": null, "prompt": "a cat"}', "prompt 1 has no id"),
        ("p.jsonl", '{"prompt": " "}', "prompt 1 has no field 'prompt'"),
    ],
)
def test_quotes_ids_and_texts_are_checked(name: str, text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        texts(tmp_path / name, text)


def test_ids_and_metadata_are_kept(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"id": "x7", "prompt": "a cat", "width": 96, "height": 160}\n')
    (prompt,) = PromptFile(tmp_path / "p.jsonl").load().prompts
    assert (prompt.id, dict(prompt.metadata)) == ("x7", {"width": 96, "height": 160})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "contains no prompts"),
        ('{"text": "x"}', "prompt 1 has no field 'prompt'"),
        ("{", "not valid JSON"),
        ("[1]", "not a JSON object"),
    ],
)
def test_invalid_files_are_reported(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text(text)
    with pytest.raises(UserError, match=message):
        PromptFile(tmp_path / "p.jsonl").load()
    (tmp_path / "p.csv").write_text("id,prompt\n1,a red, big dog\n")
    with pytest.raises(UserError, match="more fields than the header"):
        PromptFile(tmp_path / "p.csv").load()
    (tmp_path / "p.json").write_text("[]")
    with pytest.raises(UserError, match=r"not \.json"):
        PromptFile(tmp_path / "p.json").load()
    (tmp_path / "p.txt").write_bytes(b"a caf\xe9\n")
    with pytest.raises(UserError, match="is not UTF-8 text"):
        PromptFile(tmp_path / "p.txt").load()
    with pytest.raises(UserError, match="cannot be read"):
        PromptFile(tmp_path / "none.txt").load()
