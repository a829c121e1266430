"""Tests for benchmark files that are not UTF-8 text, or that begin with a byte order mark."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evaluation.metrics.compbench.numeracy import read_vocabulary
from evaluation.prompts import compbench, dpg, geneval, geneval2
from evaluation.prompts.coco import CocoCaptions
from evaluation.prompts.file import PromptFile
from pocketdit.errors import ConfigError

GENEVAL = '{"tag": "colors", "include": [{"class": "dog", "count": 1}], "prompt": "a dog\u2028here"}'


@pytest.mark.parametrize(
    ("name", "load"),
    [
        ("evaluation_metadata.jsonl", geneval.load_prompts),
        ("geneval2_data.jsonl", geneval2.load_prompts),
        ("prompts.jsonl", dpg.load_prompts),
        ("color_val.txt", lambda folder: compbench.load_prompts(folder, "color")),
        ("new_objects.txt", lambda folder: read_vocabulary(folder / "new_objects.txt")),
        ("captions.json", lambda folder: CocoCaptions(folder / "captions.json").load()),
        ("p.csv", lambda folder: PromptFile(folder / "p.csv").load()),
    ],
)
def test_files_in_another_encoding_are_an_error_in_one_line(
    name: str, load: Callable[[Path], Any], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=rf"{name}: cannot be read \(No such file or directory\)"):
        load(tmp_path)
    (tmp_path / name).write_bytes(b"a caf\xe9 table\n")
    with pytest.raises(ConfigError, match=rf"{name}: is not UTF-8 text; \w+"):
        load(tmp_path)


def test_byte_order_marks_and_unicode_line_separators_are_accepted(tmp_path: Path) -> None:
    (tmp_path / "evaluation_metadata.jsonl").write_text(GENEVAL + "\r\n", encoding="utf-8-sig", newline="")
    (prompt,) = geneval.load_prompts(tmp_path).prompts
    assert (prompt.id, prompt.text) == ("00000", "a dog\u2028here")
