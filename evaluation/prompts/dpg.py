"""The prompts of DPG-Bench (Hu et al. 2024, arXiv 2403.05135) with questions about their images."""

import csv
import json
from pathlib import Path
from typing import Any

from evaluation.assets import Asset
from evaluation.contract import Prompt, PromptSet
from evaluation.metrics.dpg.questions import DEPENDENCIES, OPENS_FILE, QUESTIONS, TUPLES
from evaluation.prompts.limits import limit_prompts
from evaluation.prompts.text_file import read_lines
from pocketdit.errors import UserError

PROMPTS_FILE = "prompts.jsonl"
QUESTIONS_FILE = "dpg_bench.csv"
_URL = (
    "https://raw.githubusercontent.com/TencentQQGYLab/ELLA/3c228f1dc6c4d3cad0a47493816151a419f14db3/dpg_bench/"
    "dpg_bench.csv"
)
_SOURCE = "github.com/TencentQQGYLab/ELLA, folder dpg_bench"


class DPGPrompts:
    """DPG-Bench's 1065 prompts and their questions, with 4 images per prompt.

    Args:
        folder: Folder that contains dpg_bench/dpg_bench.csv.
        limit: Maximum number of prompts; None uses all.
        images_each: Images per prompt; None uses the benchmark's number.
    """

    assets = (Asset("folder", f"dpg_bench/{QUESTIONS_FILE}", _URL, "", 5_000_000),)

    def __init__(self, folder: Path, limit: int | None = None, images_each: int | None = None) -> None:
        self.folder, self.limit, self.images_each = Path(folder), limit, images_each

    def load(self) -> PromptSet:
        """Load the prompt set (see ``load_prompts``)."""
        return limit_prompts(load_prompts(self.folder / "dpg_bench"), self.limit, self.images_each)


def load_prompts(folder: Path) -> PromptSet:
    """Read the prompts and questions in ``folder``.

    dpg_bench.csv is the published question file with one row per question. Its columns include item_id, text,
    proposition_id, dependency ("0" for none, else comma-separated numbers), tuple and question_natural_language. If
    the rows of an item are not contiguous, only its last group of rows is used, as in the published script.

    prompts.jsonl is optional. It contains one object with "item_id" and "text" per line, and replaces the prompts in
    the question file. Without the question file, images can be sampled but not scored: the metadata is empty, and
    ``read_questions`` raises an error.

    Raises:
        UserError: Both files are missing, one is malformed, or a prompt has no questions.
    """
    path = folder / QUESTIONS_FILE
    prompts_path = folder / PROMPTS_FILE
    use_prompts_file = prompts_path.exists() or not path.exists()
    texts = _read_texts(prompts_path) if use_prompts_file else _read_texts_from_questions(path)
    questions = _read_questions(path) if path.exists() else None
    if questions is not None and (missing := [item for item in texts if item not in questions]):
        raise UserError(
            f"{path}: no questions for {len(missing)} of the {len(texts)} prompts (the first is {missing[0]}); "
            f"get the complete file from {_SOURCE}"
        )
    prompts = tuple(Prompt(item, text, questions[item] if questions else {}) for item, text in texts.items())
    return PromptSet("dpg", prompts, images_each=4)


def _read_texts(path: Path) -> dict[str, str]:
    """Read the text of each item from prompts.jsonl."""
    lines = read_lines(path, f"get {QUESTIONS_FILE} from {_SOURCE}")
    texts: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            item, text = row["item_id"], row["text"]
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(f"{path}: line {number} is not a JSON object with item_id and text") from error
        if not isinstance(item, str) or not isinstance(text, str) or not item or Path(item).name != item:
            raise UserError(f"{path}: line {number}: item_id must be a plain file name, and text must be a string")
        if item in texts:
            raise UserError(f"{path}: line {number}: duplicate item {item}")
        texts[item] = text
    if not texts:
        raise UserError(f"{path}: contains no prompts")
    return texts


def _read_texts_from_questions(path: Path) -> dict[str, str]:
    """Read the text of each item from the question file, in the order in which the items first occur."""
    texts: dict[str, str] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for row in csv.DictReader(file):
                texts.setdefault(row["item_id"].strip(), row["text"])
    except (OSError, KeyError, AttributeError, ValueError, csv.Error) as error:
        raise UserError(f"{path}: has no column 'text' with prompts ({error}); get it from {_SOURCE}") from error
    return texts


def _read_questions(path: Path) -> dict[str, dict[str, Any]]:
    """Read the metadata of each item from the question file."""
    metadata: dict[str, dict[str, Any]] = {}
    previous: str | None = None
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for number, row in enumerate(csv.DictReader(file)):
                item = row["item_id"].strip()
                if item != previous:
                    metadata[item] = {QUESTIONS: {}, TUPLES: {}, DEPENDENCIES: {}, OPENS_FILE: number == 0}
                name = str(int(row["proposition_id"]))
                if row["question_natural_language"] is None:
                    raise ValueError(f"row {number + 1} is truncated")
                metadata[item][QUESTIONS][name] = row["question_natural_language"]
                metadata[item][TUPLES][name] = row["tuple"]
                metadata[item][DEPENDENCIES][name] = [int(parent) for parent in row["dependency"].split(",")]
                previous = item
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except (KeyError, TypeError, AttributeError, ValueError, csv.Error) as error:
        raise UserError(
            f"{path}: not DPG-Bench's question file ({type(error).__name__}: {error}); get it from {_SOURCE}"
        ) from error
    return metadata
