"""A user's prompt files in all supported formats."""

from pathlib import Path

import pytest

from evaluation.prompts.file import PromptFile
from pocketdit.errors import UserError


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
