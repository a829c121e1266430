"""The prompts of GenEval, from its own file."""

import json
from pathlib import Path
from typing import Any

from evaluation.contract import Prompt, PromptSet
from evaluation.prompts.limits import limited
from pocketdit.errors import UserError

FILE = "evaluation_metadata.jsonl"
_SOURCE = "get it from github.com/djghosh13/geneval, folder prompts"


class GenEvalPrompts:
    """GenEval's 553 prompts, 4 pictures each. ``folder``: of the benchmarks' files."""

    def __init__(self, folder: Path, limit: int | None = None, images_each: int | None = None) -> None:
        self.folder, self.limit, self.images_each = Path(folder), limit, images_each

    def load(self) -> PromptSet:
        return limited(load_prompts(self.folder / "geneval"), self.limit, self.images_each)


def load_prompts(folder: Path) -> PromptSet:
    """The prompts of ``folder``/evaluation_metadata.jsonl, one a line (553 as published), four pictures each.

    Ids are the line numbers from 0 in five digits, which is how the benchmark names its folders. ``metadata`` is the
    line itself: "tag", "include", "exclude" where there is one, and "prompt".

    Raises:
        UserError: the file is missing, empty, or a line is not of that form.
    """
    path = folder / FILE
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {_SOURCE}") from error
    prompts = tuple(_prompt(path, number, line) for number, line in enumerate(lines) if line.strip())
    if not prompts:
        raise UserError(f"{path}: holds no prompt; {_SOURCE}")
    return PromptSet("geneval", prompts, images_each=4)


def _prompt(path: Path, number: int, line: str) -> Prompt:
    try:
        metadata = json.loads(line)
        sound = isinstance(metadata["tag"], str) and isinstance(metadata["prompt"], str) and _sound(metadata)
    except (ValueError, TypeError, KeyError, AttributeError):
        sound = False
    if not sound:
        raise UserError(f"{path}: line {number + 1} is not a prompt of GenEval; {_SOURCE}")
    return Prompt(f"{number:05}", metadata["prompt"], metadata)


def _sound(metadata: dict[str, Any]) -> bool:
    """Whether the clauses have classes and counts, and positions refer to clauses before them."""
    clauses = [*metadata["include"], *metadata.get("exclude", ())]
    return all(isinstance(clause["class"], str) and isinstance(clause["count"], int) for clause in clauses) and all(
        0 <= clause["position"][1] < place for place, clause in enumerate(metadata["include"]) if "position" in clause
    )
