"""Captions of a user's own pictures: a file beside each picture, or one table for all of them."""

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

Table = dict[Path, list[str]]


def find_table(folder: Path) -> Path | None:
    """captions.csv, metadata.csv or metadata.jsonl of a folder, the first of these that is there."""
    return next((folder / name for name in _TABLES if (folder / name).is_file()), None)


def read_table(path: Path) -> Table:
    """{picture: its captions}; several rows for one picture are several captions, in the order of the rows.

    A CSV has the columns file (or file_name) and caption (or text); a .jsonl has the same names as keys, or
    "captions" with a list. Files are relative to the table's folder.

    Raises:
        UserError: no such file, not readable as a table, or a column is missing.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such caption table")
    table: Table = {}
    try:
        for line, row in _rows(path):
            file = next((row[name] for name in _FILE_COLUMNS if row.get(name)), None)
            if not isinstance(file, str):
                raise UserError(f"{path}: line {line}: no column 'file' (or 'file_name')")
            try:
                captions = _captions(row)
            except SampleError as error:
                raise UserError(f"{path}: line {line}: {error}") from error
            table.setdefault((path.parent / file).resolve(), []).extend(captions)
    except (ValueError, csv.Error) as error:  # also: not UTF-8
        raise UserError(f"{path}: not readable as a table ({error}); save it as UTF-8") from error
    return table


def captions_beside(picture: Path) -> list[str] | None:
    """Captions from the .json or .txt beside a picture; None if there is neither.

    The .json is {"caption": "..."} or {"captions": ["...", ...]}. Each line of the .txt is a caption.

    Raises:
        SampleError: there is one, but it is not readable or holds no caption.
    """
    for suffix in (".json", ".txt"):
        path = picture.with_suffix(suffix)
        if not path.is_file():
            continue
        try:
            text = path.read_text(encoding="utf-8-sig")
            row = json.loads(text) if suffix == ".json" else {"captions": text.splitlines()}
        except (OSError, ValueError) as error:
            raise SampleError(f"{path.name} is not readable ({error})") from error
        captions = _captions(row) if isinstance(row, dict) else []
        if not captions:
            raise SampleError(f"{path.name} holds no caption")
        return captions
    return None


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        if path.suffix == ".jsonl":
            for number, line in enumerate(file, start=1):
                if line.strip():
                    row = json.loads(line)
                    if not isinstance(row, dict):
                        raise UserError(f"{path}: line {number}: not an object")
                    yield number, row
            return
        reader = csv.DictReader(file)
        header = reader.fieldnames or []
        for wanted in (_FILE_COLUMNS, _CAPTION_COLUMNS):
            if not set(wanted) & set(header):
                columns = ", ".join(header) or "none"
                raise UserError(f"{path}: no column {wanted[0]!r} (or {wanted[1]!r}); the columns are: {columns}")
        for row in reader:
            yield reader.line_num, row


def _captions(row: Mapping[str, Any]) -> list[str]:
    found = row.get("captions")
    if found is None:
        found = [row[name] for name in _CAPTION_COLUMNS if row.get(name) is not None]
    if not isinstance(found, list) or not all(isinstance(caption, str) for caption in found):
        raise SampleError("captions are not text")
    return [" ".join(caption.split()) for caption in found if caption.strip()]
