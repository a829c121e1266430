"""The prompts of GenEval (Ghosh et al. 2023, arXiv 2310.11513)."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evaluation.assets import Asset
from evaluation.contract import Prompt, PromptSet
from evaluation.prompts.limits import limit_prompts
from evaluation.prompts.text_file import read_lines
from pocketdit.errors import UserError

FILE = "evaluation_metadata.jsonl"
_URL = (
    "https://raw.githubusercontent.com/djghosh13/geneval/af4902f24d3ca90ebbb446dd9891a59e0f82725f/prompts/"
    "evaluation_metadata.jsonl"
)
_SOURCE = "get the file from github.com/djghosh13/geneval, folder prompts"


class GenEvalPrompts:
    """GenEval's 553 prompts, with 4 images per prompt.

    Args:
        folder: Folder that contains geneval/evaluation_metadata.jsonl.
        limit: Maximum number of prompts; None uses all.
        images_each: Images per prompt; None uses the benchmark's number.
    """

    assets = (
        Asset(
            "folder",
            f"geneval/{FILE}",
            _URL,
            "5c48e0813e812e3c373fa5c8ed07a8f0a483be30272b4427b0559c8048e67c13",
            85_209,
        ),
    )

    def __init__(self, folder: Path, limit: int | None = None, images_each: int | None = None) -> None:
        self.folder, self.limit, self.images_each = Path(folder), limit, images_each

    def load(self) -> PromptSet:
        """Load the prompt set (see ``load_prompts``)."""
        return limit_prompts(load_prompts(self.folder / "geneval"), self.limit, self.images_each)


def load_prompts(folder: Path) -> PromptSet:
    """Read the prompts of ``folder``/evaluation_metadata.jsonl, one per line.

    The ids are the line numbers from 0, padded to five digits, as in the names of the benchmark's folders. The metadata
    is the JSON object in the line, with "tag", "include", "prompt" and, in some lines, "exclude".

    Raises:
        UserError: The file is missing or empty, or a line is malformed.
    """
    path = folder / FILE
    lines = read_lines(path, _SOURCE)
    prompts = tuple(_parse(path, number, line) for number, line in enumerate(lines) if line.strip())
    if not prompts:
        raise UserError(f"{path}: contains no prompts; {_SOURCE}")
    return PromptSet("geneval", prompts, images_each=4)


def _parse(path: Path, number: int, line: str) -> Prompt:
    try:
        metadata = json.loads(line)
        valid = is_valid(metadata) and isinstance(metadata["prompt"], str)
    except (ValueError, TypeError, KeyError):
        valid = False
    if not valid:
        raise UserError(f"{path}: line {number + 1} is not a GenEval prompt; {_SOURCE}")
    return Prompt(f"{number:05}", metadata["prompt"], metadata)


def is_valid(metadata: Mapping[str, Any]) -> bool:
    """Return whether metadata has a tag and valid clauses. A clause's position must refer to an earlier clause."""
    try:
        clauses = [*metadata["include"], *metadata.get("exclude", ())]
        return (
            isinstance(metadata["tag"], str)
            and all(isinstance(clause["class"], str) and isinstance(clause["count"], int) for clause in clauses)
            and all(
                isinstance(clause["position"][0], str) and 0 <= clause["position"][1] < place
                for place, clause in enumerate(metadata["include"])
                if "position" in clause
            )
        )
    except (TypeError, KeyError, IndexError, AttributeError):
        return False
