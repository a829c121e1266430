"""Reads captions of user-provided images from a file next to an image or from a table."""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from datamodules.shards.schema import SampleError, is_text
from datamodules.shards.sources import is_file, path_text
from pocketdit.errors import UserError

CAPTION_SUFFIXES = (".json", ".txt", ".caption")
_TABLES = tuple(f"{name}{suffix}" for name in ("captions", "metadata") for suffix in (".csv", ".tsv", ".jsonl"))
_FILE_KEYS = ("file", "file_name", "filename", "image")
_CAPTION_KEYS = ("caption", "text", "captions")


class _Dialect(csv.excel):
    strict = True
    skipinitialspace = True


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
    tables = [path for path in paths if path.name.lower() in _TABLES]
    return sorted(tables, key=lambda path: (-len(path.parts), path.parent, _TABLES.index(path.name.lower())))


def read_table(path: Path, folder: Path) -> CaptionTable:
    """Read a caption table.

    A CSV or TSV file has the columns "file" (or "file_name", "filename", "image") and "caption" (or "text",
    "captions"). A JSONL file has the same names as keys, whose values may also be lists of captions. File names are
    relative to the table's folder, or else to ``folder``.

    Returns:
        Captions by the path of the image. Several rows for an image give it several captions.

    Raises:
        UserError: The file does not exist or is not a table, a column is missing or appears twice, or a row has too
            many cells.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such caption table")
    table: CaptionTable = {}
    try:
        for line, row in _read_rows(path):
            file = next((row[key] for key in _FILE_KEYS if row.get(key)), None)
            if file is None:
                raise UserError(f"{path}: line {line}: {_missing_key(_FILE_KEYS, row)}")
            if not isinstance(file, str):
                raise UserError(f"{path}: line {line}: {file!r} is not the name of a file")
            image = _find_image(file.strip(), path.parent, folder)
            captions, problem = list[str](), ""
            try:
                captions = _captions(row)
            except SampleError as error:
                problem = f"{path_text(Path(path.name))}, line {line}: {error}"
            entry = table.setdefault(image, TableEntry([], f"{path_text(Path(path.name))}, line {line}", problem))
            entry.captions.extend(captions)
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: not readable as a table ({error})") from error
    return table


def read_caption_lines(path: Path) -> list[str]:
    """Read the captions of a .json file, or the lines of a text file that are not blank.

    A .json file contains an object with the keys "caption", "text", or "captions", whose values are strings or lists of
    strings, or only such a value.

    Raises:
        SampleError: The file is not readable or does not contain a caption.
    """
    name = path_text(Path(path.name))
    try:
        text = _read_text(path)
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


def _read_text(path: Path) -> str:
    """Read a text file.

    Raises:
        ValueError: The file is not UTF-8. UTF-16 without a byte order mark looks like UTF-8 with null characters.
        OSError: The file cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{error}; save it as UTF-8") from error
    if "\0" in text:
        raise ValueError("it contains null characters; save it as UTF-8")
    return text


def _read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the number of the last line and the cells of each row that is not empty."""
    text = _read_text(path)
    if path.suffix.lower() == ".jsonl":
        for number, line in enumerate(io.StringIO(text), start=1):
            if line.strip():
                yield number, _parse_json_row(path, number, line)
        return
    delimiter = _delimiter(path, text)
    reader = csv.reader(io.StringIO(text), _Dialect, delimiter=delimiter)
    try:
        columns = _columns(reader)
        _check_columns(path, columns)
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


def _delimiter(path: Path, text: str) -> str:
    """Return the delimiter. Spreadsheets also write semicolons or tabs into files that are named .csv."""
    if path.suffix.lower() == ".tsv":
        return "\t"
    for delimiter in ",;\t":
        with suppress(csv.Error):
            columns = set(_columns(csv.reader(io.StringIO(text), _Dialect, delimiter=delimiter)))
            if columns & set(_FILE_KEYS) and columns & set(_CAPTION_KEYS):
                return delimiter
    return ","


def _columns(rows: Iterator[list[str]]) -> list[str]:
    return [column.strip() for column in next(rows, [])]


def _check_columns(path: Path, columns: list[str]) -> None:
    for keys in (_FILE_KEYS, _CAPTION_KEYS):
        if not set(keys) & set(columns):
            raise UserError(
                f"{path}: the column {_alternatives(keys)} is missing; the columns are: {', '.join(columns) or 'none'}"
            )
        if twice := [key for key in keys if columns.count(key) > 1]:
            raise UserError(f"{path}: the column {twice[0]!r} appears twice; rename one of the columns")


def _find_image(file: str, parent: Path, folder: Path) -> Path:
    for path in (parent / file, folder / file):
        if is_file(path):
            return path.resolve()
    return parent / file


def _missing_key(keys: tuple[str, ...], row: Mapping[str, Any]) -> str:
    return f"the key {_alternatives(keys)} is missing or empty; the keys are: {', '.join(row) or 'none'}"


def _alternatives(keys: tuple[str, ...]) -> str:
    return f"{keys[0]!r} (or {' or '.join(map(repr, keys[1:]))})"


def _captions(row: Mapping[str, Any]) -> list[str]:
    values = [row[key] for key in _CAPTION_KEYS if row.get(key) is not None]
    if not values:
        raise SampleError(_missing_key(_CAPTION_KEYS, row))
    captions = [caption for value in values for caption in (value if isinstance(value, list) else [value])]
    if not all(is_text(caption) for caption in captions):
        raise SampleError("captions are not text")
    return [" ".join(caption.split()) for caption in captions if caption.strip()]
