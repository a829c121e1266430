"""The prompts of GenEval 2 (Kamath et al. 2025, arXiv 2512.16853) with questions about their images."""

import json
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from evaluation.assets import Asset
from evaluation.contract import Prompt, PromptSet
from evaluation.prompts.limits import limit_prompts
from evaluation.prompts.text_file import read_lines
from pocketdit.errors import UserError

FILE = "geneval2_data.jsonl"
_URL = f"https://raw.githubusercontent.com/facebookresearch/GenEval2/a6e82d2289e8d418f27f0adee77908b07060eea3/{FILE}"
_SOURCE = f"get it from {_URL}"
_FIELDS = ("prompt", "atom_count", "vqa_list", "skills")


class GenEval2Prompts:
    """GenEval 2's 800 prompts, with 1 image per prompt.

    The file is not part of PocketDiT; ``--fetch`` downloads it. Its license, CC BY-NC 4.0, permits non-commercial use
    only.

    Args:
        folder: Folder that contains geneval2/geneval2_data.jsonl.
        limit: Maximum number of prompts; None uses all.
        images_each: Images per prompt; None uses the benchmark's number.
    """

    assets = (
        Asset(
            "folder",
            f"geneval2/{FILE}",
            _URL,
            "09233adbc9f877fba205f1a20efa4a8640e7e62a91dfd55893562bed8a928e43",
            423_220,
            license="CC BY-NC 4.0, non-commercial use only",
        ),
    )

    def __init__(self, folder: Path, limit: int | None = None, images_each: int | None = None) -> None:
        self.folder, self.limit, self.images_each = Path(folder), limit, images_each

    def load(self) -> PromptSet:
        """Load the prompt set (see ``load_prompts``)."""
        return limit_prompts(load_prompts(self.folder / "geneval2"), self.limit, self.images_each)


def load_prompts(folder: Path) -> PromptSet:
    """Read the prompts of ``folder``/geneval2_data.jsonl, one per line.

    The ids are the line numbers from 0, padded to five digits. The metadata contains the fields "prompt", "atom_count",
    "vqa_list" (pairs of a question and its answer) and "skills" (one per question) of the JSON object in the line.

    Raises:
        UserError: The file is missing or empty, or a line is malformed.
    """
    path = folder / FILE
    lines = read_lines(path, _SOURCE)
    prompts = tuple(_parse(path, number, line) for number, line in enumerate(lines) if line.strip())
    if not prompts:
        raise UserError(f"{path}: contains no prompts; {_SOURCE}")
    return PromptSet("geneval2", prompts, images_each=1)


def _parse(path: Path, number: int, line: str) -> Prompt:
    try:
        row = json.loads(line)
        valid = is_valid(row) and isinstance(row["prompt"], str)
    except (ValueError, TypeError, KeyError):
        valid = False
    if not valid:
        raise UserError(f"{path}: line {number + 1} is not a GenEval 2 prompt; {_SOURCE}")
    return Prompt(f"{number:05}", row["prompt"], {name: row[name] for name in _FIELDS})


def is_valid(metadata: Mapping[str, Any]) -> bool:
    """Return whether the metadata contains the atom count, and a skill for each question-answer pair."""
    try:
        pairs, skills = metadata["vqa_list"], metadata["skills"]
        return (
            isinstance(metadata["atom_count"], int)
            and all(isinstance(values, list | tuple) for values in (pairs, skills))
            and len(pairs) == len(skills) > 0
            and all(len(pair) == 2 for pair in pairs)
            and all(isinstance(text, str) for text in (*skills, *chain.from_iterable(pairs)))
        )
    except (TypeError, KeyError):
        return False
