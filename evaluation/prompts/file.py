"""Prompts from a user's own file."""

import csv
import io
import json
from pathlib import Path
from typing import Literal

from evaluation.contract import Prompt, PromptSet
from evaluation.prompts.limits import limit_prompts
from evaluation.prompts.text_file import read_lines, read_text
from pocketdit.errors import ConfigError
from pocketdit.names import require_unicode


class PromptFile:
    """Prompts from a text, JSON Lines, CSV or TSV file.

    Args:
        path: A .txt file with one prompt per line, a .jsonl file with objects, or a .csv or .tsv file with a header.
            Objects and rows have a "prompt" (or "Prompt", as in PartiPrompts) and optionally an "id". All other
            fields become metadata. The default id is the index of the prompt, not counting blank lines, padded to
            five digits.
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
        prompts = tuple(self._prompt(i, row) for i, row in enumerate(self._rows()))
        if not prompts:
            raise ConfigError(f"{self.path}: contains no prompts")
        return limit_prompts(PromptSet(self.path.stem, prompts, self.images_each), self.limit)

    def _rows(self) -> list[dict[str, object]]:
        match self.path.suffix.lower():
            case ".jsonl":
                try:
                    rows = [json.loads(line) for line in read_lines(self.path) if line.strip()]
                except ValueError as error:
                    raise ConfigError(f"{self.path}: a line is not valid JSON ({error})") from error
                if not all(isinstance(row, dict) for row in rows):
                    raise ConfigError(f"{self.path}: a line is not a JSON object")
                return rows
            case ".csv":
                return self._table(",", csv.QUOTE_MINIMAL)
            case ".tsv":
                try:
                    return self._table("\t", csv.QUOTE_MINIMAL)
                except ConfigError:  # tab-separated files often contain quotes as plain characters (PartiPrompts does)
                    return self._table("\t", csv.QUOTE_NONE)
            case ".txt":
                return [{"prompt": line.strip()} for line in read_lines(self.path) if line.strip()]
            case other:
                raise ConfigError(f"{self.path}: the suffix must be .txt, .jsonl, .csv or .tsv, not {other or 'empty'}")

    def _table(self, delimiter: str, quoting: Literal[0, 3]) -> list[dict[str, object]]:
        """Return the rows that are not blank. Quoted fields may contain line breaks."""
        text = io.StringIO(read_text(self.path), newline="")
        reader = csv.DictReader(text, delimiter=delimiter, quoting=quoting, strict=True)
        try:
            rows: list[dict[str, object]] = [dict(row) for row in reader]
        except csv.Error as error:
            raise ConfigError(
                f"{self.path}: misplaced quotes after line {reader.line_num} ({error}); quote the whole field, and "
                "double the quotes inside it"
            ) from error
        return [row for row in rows if any(isinstance(value, str) and value.strip() for value in row.values())]

    def _prompt(self, number: int, row: dict[str, object]) -> Prompt:
        text = row.get("prompt") or row.get("Prompt")
        if not isinstance(text, str) or not text.strip():
            raise ConfigError(f"{self.path}: prompt {number + 1} has no field 'prompt'")
        if None in row:
            raise ConfigError(
                f"{self.path}: prompt {number + 1} has more fields than the header; quote fields that contain commas"
            )
        metadata = {key: value for key, value in row.items() if key not in ("id", "prompt", "Prompt")}
        name = row.get("id", f"{number:05d}")
        if name is None or name == "":
            raise ConfigError(f"{self.path}: prompt {number + 1} has no id; fill in the field 'id' of all prompts")
        try:
            require_unicode(str(name))
            require_unicode(text)
        except ValueError as error:
            raise ConfigError(f"{self.path}: prompt {number + 1}: {error}") from None
        return Prompt(str(name), text, metadata)
