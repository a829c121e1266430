"""Reads captions of user-provided images from a file next to an image or from a table."""

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from datamodules.shards.schema import SampleError, is_text
from datamodules.shards.sources import path_text
from pocketdit.errors import UserError

CAPTION_SUFFIXES = (".json", ".txt", ".caption")
_TABLES = tuple(f"{name}{suffix}" for name in ("captions", "metadata") for suffix in (".csv", ".tsv", ".jsonl"))
_FILE_KEYS = ("file", "file_name", "filename", "image")
_CAPTION_KEYS = ("caption", "text")
_ALL_CAPTION_KEYS = ("captions", *_CAPTION_KEYS)


class TableEntry(NamedTuple):
    """The captions of an image in a table.

    Attributes:
        captions: The captions, in the order of the rows.
        place: The table and the line of the first row.
        problem: Why a row has no caption; empty if all rows have one.
    """

    captions: list[str]
    place: str
    problem: str = ""


CaptionTable = dict[Path, TableEntry]


def find_tables(paths: list[Path]) -> list[Path]:
    """Return the caption tables among files: those in the deepest folders first, because they are the most specific."""
    tables = [path for path in paths if path.name in _TABLES]
    return sorted(tables, key=lambda path: (-len(path.parts), path.parent, _TABLES.index(path.name)))


def read_table(path: Path, folder: Path) -> CaptionTable:
    """Read a caption table.

    A CSV or TSV file has the columns "file" (or "file_name", "filename", "image") and "caption" (or "text"). A JSONL
    file has the same names as keys, or "captions" with a list of captions. File names are relative to the table's
    folder, or else to ``folder``.

    Returns:
        Captions by the path of the image. Several rows for an image give it several captions.

    Raises:
        UserError: The file does not exist or is not a table, a column is missing, or a row has too many cells.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such caption table")
    table: CaptionTable = {}
    try:
        for line, row in _read_rows(path):
            file = next((row[key] for key in _FILE_KEYS if row.get(key)), None)
            if not isinstance(file, str):
                raise UserError(f"{path}: line {line}: {_missing('file', _FILE_KEYS, row)}")
            image = _find_image(file, path.parent, folder)
            captions, problem = list[str](), ""
            try:
                captions = _captions(row)
            except SampleError as error:
                problem = f"{path_text(Path(path.name))}, line {line}: {error}"
            entry = table.setdefault(image, TableEntry([], f"{path_text(Path(path.name))}, line {line}", problem))
            entry.captions.extend(captions)
    except (ValueError, OSError) as error:  # ValueError: not UTF-8
        raise UserError(f"{path}: not readable as a table ({error}); save it as UTF-8") from error
    return table


def read_caption_lines(path: Path) -> list[str]:
    """Read the captions of a .json file, or the lines of a text file that are not blank.

    A .json file contains {"caption": "..."}, {"text": "..."}, {"captions": ["...", ...]}, a string, or a list of
    strings.

    Raises:
        SampleError: The file is not readable or does not contain a caption.
    """
    name = path_text(Path(path.name))
    try:
        text = path.read_text(encoding="utf-8-sig")
        content = json.loads(text) if path.suffix.lower() == ".json" else {"captions": text.splitlines()}
    except (OSError, ValueError, RecursionError) as error:
        raise SampleError(f"{name} is not readable ({error})") from error
    try:
        captions = _captions(content if isinstance(content, dict) else {"captions": content})
    except SampleError as error:
        raise SampleError(f"{name}: {error}") from error
    if not captions:
        raise SampleError(f"{name} does not contain a caption")
    return captions


def _read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        if path.suffix.lower() == ".jsonl":
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, _parse_json_row(path, number, line)
            return
        header = file.readline()
        file.seek(0)
        delimiter = _delimiter(path, header)
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        try:
            columns = [column.strip() for column in next(reader, [])]
            for key, keys in (("file", _FILE_KEYS), ("caption", _CAPTION_KEYS)):
                if not set(keys) & set(columns):
                    raise UserError(f"{path}: {_missing(key, keys, dict.fromkeys(columns), 'column')}")
            for cells in reader:
                if len(cells) > len(columns):
                    raise UserError(
                        f"{path}: line {reader.line_num}: {len(cells)} cells, but there are {len(columns)} columns; "
                        f"put captions that contain {delimiter!r} into double quotes"
                    )
                if any(cell.strip() for cell in cells):
                    yield reader.line_num, dict(zip(columns, cells, strict=False))
        except csv.Error as error:
            raise UserError(f"{path}: line {reader.line_num}: the double quotes do not match ({error})") from error


def _parse_json_row(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: line {number}: not JSON ({error})") from error
    if not isinstance(row, dict):
        raise UserError(f"{path}: line {number}: not a JSON object")
    return row


def _delimiter(path: Path, header: str) -> str:
    """Return the delimiter. Spreadsheets also write semicolons or tabs into files that are named .csv."""
    if path.suffix.lower() == ".tsv":
        return "\t"
    return next((other for other in ("\t", ";") if other in header and "," not in header), ",")


def _find_image(file: str, parent: Path, folder: Path) -> Path:
    candidates = (parent / file, folder / file)
    return next((path for path in candidates if path.is_file()), candidates[0]).resolve()


def _missing(name: str, keys: tuple[str, ...], row: Mapping[str, Any], kind: str = "key") -> str:
    others = " or ".join(repr(key) for key in keys if key != name)
    return f"the {kind} {name!r} (or {others}) is missing; the {kind}s are: {', '.join(map(str, row)) or 'none'}"


def _captions(row: Mapping[str, Any]) -> list[str]:
    captions = row.get("captions")
    if captions is None:
        captions = [row[key] for key in _CAPTION_KEYS if row.get(key) is not None]
        if not captions:
            raise SampleError(_missing("caption", _ALL_CAPTION_KEYS, row))
    captions = [captions] if isinstance(captions, str) else captions
    if not isinstance(captions, list) or not all(is_text(caption) for caption in captions):
        raise SampleError("captions are not text")
    return [" ".join(caption.split()) for caption in captions if caption.strip()]
