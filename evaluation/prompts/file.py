"""Prompts from a user's own file."""

import csv
import json
from pathlib import Path

from evaluation.contract import Prompt, PromptSet
from evaluation.prompts.limits import limit_prompts
from pocketdit.errors import ConfigError


class PromptFile:
    """Prompts from a text, JSON Lines, CSV or TSV file.

    Args:
        path: A .txt file with one prompt per line, a .jsonl file with objects, or a .csv or .tsv file with a header.
            Objects and rows have a "prompt" (or "Prompt", as in PartiPrompts) and optionally an "id". All other
            fields become metadata. The default id is the index of the prompt, padded to five digits.
        images_each: Images per prompt.
        limit: Maximum number of prompts; None uses all.
    """

    def __init__(self, path: Path, images_each: int = 1, limit: int | None = None) -> None:
        self.path, self.images_each, self.limit = Path(path), images_each, limit

    def load(self) -> PromptSet:
        """Read the file.

        Raises:
            ConfigError: The file cannot be read, or a prompt is malformed.
        """
        try:
            text = self.path.read_text(encoding="utf-8-sig")
        except OSError as error:
            raise ConfigError(f"{self.path}: cannot be read ({error.strerror})") from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"{self.path}: is not UTF-8 text") from error
        prompts = tuple(self._prompt(i, row) for i, row in enumerate(self._rows(text)))
        if not prompts:
            raise ConfigError(f"{self.path}: contains no prompts")
        return limit_prompts(PromptSet(self.path.stem, prompts, self.images_each), self.limit)

    def _rows(self, text: str) -> list[dict[str, object]]:
        lines = [line for line in text.splitlines() if line.strip()]
        match self.path.suffix.lower():
            case ".jsonl":
                try:
                    rows = [json.loads(line) for line in lines]
                except ValueError as error:
                    raise ConfigError(f"{self.path}: a line is not valid JSON ({error})") from error
                if not all(isinstance(row, dict) for row in rows):
                    raise ConfigError(f"{self.path}: a line is not a JSON object")
                return rows
            case ".csv" | ".tsv":
                delimiter = "\t" if self.path.suffix.lower() == ".tsv" else ","
                return list(csv.DictReader(lines, delimiter=delimiter))
            case ".txt":
                return [{"prompt": line.strip()} for line in lines]
            case other:
                raise ConfigError(f"{self.path}: the suffix must be .txt, .jsonl, .csv or .tsv, not {other or 'empty'}")

    def _prompt(self, number: int, row: dict[str, object]) -> Prompt:
        text = row.get("prompt") or row.get("Prompt")
        if not isinstance(text, str):
            raise ConfigError(f"{self.path}: prompt {number + 1} has no field 'prompt'")
        if None in row:
            raise ConfigError(
                f"{self.path}: prompt {number + 1} has more fields than the header; quote fields that contain commas"
            )
        metadata = {key: value for key, value in row.items() if key not in ("id", "prompt", "Prompt")}
        return Prompt(str(row.get("id", f"{number:05d}")), text, metadata)
