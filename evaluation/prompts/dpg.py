"""The prompts of DPG-Bench and the questions that it asks about their images."""

import csv
import json
from pathlib import Path
from typing import Any

from evaluation.contract import Prompt, PromptSet
from evaluation.metrics.dpg.questions import DEPENDENCIES, OPENS_FILE, QUESTIONS, TUPLES
from evaluation.prompts.limits import limited
from pocketdit.errors import UserError

PROMPTS_FILE = "prompts.jsonl"
QUESTIONS_FILE = "dpg_bench.csv"
_SOURCE = "github.com/TencentQQGYLab/ELLA, folder dpg_bench"


class DPGPrompts:
    """DPG-Bench's 1065 prompts with their questions, 4 pictures each."""

    def __init__(self, folder: Path, limit: int | None = None, images_each: int | None = None) -> None:
        self.folder, self.limit, self.images_each = Path(folder), limit, images_each

    def load(self) -> PromptSet:
        return limited(load_prompts(self.folder / "dpg_bench"), self.limit, self.images_each)


def load_prompts(folder: Path) -> PromptSet:
    """The prompts of ``folder`` (1065 as published), four pictures each.

    dpg_bench.csv: the published question file, a row per question with at least the columns item_id, text,
    proposition_id, dependency ("0" for none, else numbers with commas), tuple and question_natural_language. Where an
    item's rows are not together, the last run of them counts, as in the published script. prompts.jsonl, where it is
    there: "item_id" and "text" a line, in place of the file's texts. With it alone pictures can be made: then
    ``metadata`` is empty, and ``read_questions`` says what to get.

    Raises:
        UserError: neither file is there, one is not of that form, or a prompt has no question.
    """
    path = folder / QUESTIONS_FILE
    given = folder / PROMPTS_FILE
    texts = _texts(given) if given.exists() or not path.exists() else _texts_of_questions(path)
    questions = _questions(path) if path.exists() else None
    if questions is not None and (lacking := [item for item in texts if item not in questions]):
        raise UserError(
            f"{path}: no question for {len(lacking)} of the {len(texts)} prompts, the first is {lacking[0]}; "
            f"get the whole file from {_SOURCE}"
        )
    prompts = tuple(Prompt(item, text, questions[item] if questions else {}) for item, text in texts.items())
    return PromptSet("dpg", prompts, images_each=4)


def _texts(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); it holds DPG-Bench's prompts") from error
    texts: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            item, text = row["item_id"], row["text"]
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(f"{path}: line {number} is no JSON object with item_id and text") from error
        if not isinstance(item, str) or not isinstance(text, str) or not item or Path(item).name != item:
            raise UserError(f"{path}: line {number}: item_id must be a plain file name, and text a text")
        if item in texts:
            raise UserError(f"{path}: line {number}: item {item} is there twice")
        texts[item] = text
    if not texts:
        raise UserError(f"{path}: holds no prompt")
    return texts


def _texts_of_questions(path: Path) -> dict[str, str]:
    """Prompts by item, in the order of their first rows."""
    texts: dict[str, str] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for row in csv.DictReader(file):
                texts.setdefault(row["item_id"].strip(), row["text"])
    except (OSError, KeyError, AttributeError, ValueError, csv.Error) as error:
        raise UserError(f"{path}: no prompts in its column text ({error}); get it from {_SOURCE}") from error
    return texts


def _questions(path: Path) -> dict[str, dict[str, Any]]:
    """Metadata by item."""
    found: dict[str, dict[str, Any]] = {}
    previous: str | None = None
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for number, row in enumerate(csv.DictReader(file)):
                item = row["item_id"].strip()
                if item != previous:
                    found[item] = {QUESTIONS: {}, TUPLES: {}, DEPENDENCIES: {}, OPENS_FILE: number == 0}
                name = str(int(row["proposition_id"]))
                if row["question_natural_language"] is None:
                    raise ValueError(f"row {number + 1} is cut short")
                found[item][QUESTIONS][name] = row["question_natural_language"]
                found[item][TUPLES][name] = row["tuple"]
                found[item][DEPENDENCIES][name] = [int(parent) for parent in row["dependency"].split(",")]
                previous = item
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except (KeyError, TypeError, AttributeError, ValueError, csv.Error) as error:
        raise UserError(
            f"{path}: not DPG-Bench's question file ({type(error).__name__}: {error}); get it from {_SOURCE}"
        ) from error
    return found
