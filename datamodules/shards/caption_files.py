"""Reads captions of user-provided images from a file next to each image or from a table."""

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from datamodules.shards.schema import SampleError
from pocketdit.errors import UserError

_TABLES = ("captions.csv", "metadata.csv", "metadata.jsonl")
_FILE_COLUMNS = ("file", "file_name")
_CAPTION_COLUMNS = ("caption", "text")

CaptionTable = dict[Path, list[str]]


def find_table(folder: Path) -> Path | None:
    """Return the first of captions.csv, metadata.csv, and metadata.jsonl that exists in the folder."""
    return next((folder / name for name in _TABLES if (folder / name).is_file()), None)


def read_table(path: Path) -> CaptionTable:
    """Read a caption table.

    A CSV file has the columns "file" (or "file_name") and "caption" (or "text"). A JSONL file has the same names as
    keys, or "captions" with a list of captions. File names are relative to the table's folder.

    Returns:
        Captions by the path of the image. Several rows for an image give it several captions, in the order of the rows.

    Raises:
        UserError: The file does not exist or is not a table, or a column is missing.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such caption table")
    table: CaptionTable = {}
    try:
        for line, row in _read_rows(path):
            file = next((row[name] for name in _FILE_COLUMNS if row.get(name)), None)
            if not isinstance(file, str):
                raise UserError(f"{path}: line {line}: the column 'file' (or 'file_name') is missing")
            try:
                captions = _captions(row)
            except SampleError as error:
                raise UserError(f"{path}: line {line}: {error}") from error
            table.setdefault((path.parent / file).resolve(), []).extend(captions)
    except (ValueError, csv.Error) as error:  # ValueError: not UTF-8, or not JSON
        raise UserError(f"{path}: not readable as a table ({error}); save it as UTF-8") from error
    return table


def read_captions_beside(image: Path) -> list[str] | None:
    """Read the captions from the .json or .txt file next to an image, or return None if neither exists.

    A .json file contains {"caption": "..."} or {"captions": ["...", ...]}. Each line of a .txt file is a caption.

    Raises:
        SampleError: The file is not readable or does not contain a caption.
    """
    for suffix in (".json", ".txt"):
        path = image.with_suffix(suffix)
        if not path.is_file():
            continue
        try:
            text = path.read_text(encoding="utf-8-sig")
            row = json.loads(text) if suffix == ".json" else {"captions": text.splitlines()}
        except (OSError, ValueError) as error:
            raise SampleError(f"{path.name} is not readable ({error})") from error
        captions = _captions(row) if isinstance(row, dict) else []
        if not captions:
            raise SampleError(f"{path.name} does not contain a caption")
        return captions
    return None


def _read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        if path.suffix == ".jsonl":
            for number, line in enumerate(file, start=1):
                if line.strip():
                    row = json.loads(line)
                    if not isinstance(row, dict):
                        raise UserError(f"{path}: line {number}: not a JSON object")
                    yield number, row
            return
        reader = csv.DictReader(file)
        header = reader.fieldnames or []
        for names in (_FILE_COLUMNS, _CAPTION_COLUMNS):
            if not set(names) & set(header):
                columns = ", ".join(header) or "none"
                raise UserError(
                    f"{path}: the column {names[0]!r} (or {names[1]!r}) is missing; the columns are: {columns}"
                )
        for row in reader:
            yield reader.line_num, row


def _captions(row: Mapping[str, Any]) -> list[str]:
    captions = row.get("captions")
    if captions is None:
        captions = [row[name] for name in _CAPTION_COLUMNS if row.get(name) is not None]
    if not isinstance(captions, list) or not all(isinstance(caption, str) for caption in captions):
        raise SampleError("captions are not text")
    return [" ".join(caption.split()) for caption in captions if caption.strip()]
