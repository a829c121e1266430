"""Reads captions of user-provided images from a file next to an image or from a table."""

from pathlib import Path
from typing import Any, NamedTuple

from datamodules.imports.captions import CAPTION_KEYS, captions_of_keys, missing_key
from datamodules.imports.json_text import parse_json
from datamodules.imports.tables import TABLE_SUFFIXES, ColumnGroup, read_rows
from datamodules.shards.schema import SampleError
from datamodules.shards.sources import is_file, path_text
from pocketdit.errors import UserError

CAPTION_SUFFIXES = (".json", ".txt", ".caption")
FILE_KEYS = ("file", "file_name", "filename", "image")
_TABLES = tuple(f"{name}{suffix}" for name in ("captions", "metadata") for suffix in TABLE_SUFFIXES)


class TableEntry(NamedTuple):
    """The captions of an image in a table.

    Attributes:
        captions: The captions, in the order of the rows.
        place: The table and the line of the first row.
        columns: All values of the first row.
        problem: Why a row has no caption; empty if all rows have one.
    """

    captions: list[str]
    place: str
    columns: dict[str, Any]
    problem: str = ""


class CaptionFile(NamedTuple):
    """The contents of a .json, .txt or .caption file.

    Attributes:
        captions: The captions of a .json file, or the lines of a text file that are not blank.
        columns: All values of a .json file that is an object.
    """

    captions: list[str]
    columns: dict[str, Any]


CaptionTable = dict[Path, TableEntry]


def find_tables(paths: list[Path]) -> list[Path]:
    """Return the caption tables among files: those in the deepest folders first, because they are the most specific."""
    tables = [path for path in paths if path.name.lower() in _TABLES]
    return sorted(tables, key=lambda path: (-len(path.parts), path.parent, _TABLES.index(path.name.lower())))


def read_table(path: Path, folder: Path, keep_columns: bool = False) -> CaptionTable:
    """Read a caption table.

    The table has the columns "file" (or "file_name", "filename", "image") and "caption" (or "text", "captions"). In
    JSONL and Parquet files, captions may also be lists. File names are relative to the table's folder, or else to
    ``folder``.

    Args:
        path: The table.
        folder: The folder of the images.
        keep_columns: Whether to keep the other columns, too.

    Returns:
        Captions by the path of the image. Several rows for an image give it several captions.

    Raises:
        UserError: The file does not exist or is not a table, a column is missing or appears twice, or a row has too
            many cells.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such caption table")
    table: CaptionTable = {}
    for where, _, row in read_rows(path, (ColumnGroup(FILE_KEYS), ColumnGroup(CAPTION_KEYS))):
        file = next((row[key] for key in FILE_KEYS if row.get(key)), None)
        if file is None:
            raise UserError(f"{path}: {where}: {missing_key(FILE_KEYS, row)}")
        if not isinstance(file, str):
            raise UserError(f"{path}: {where}: {file!r} is not the name of a file")
        image = _find_image(file.strip(), path.parent, folder)
        place = f"{path_text(Path(path.name))}, {where}"
        captions, problem = list[str](), ""
        try:
            captions = captions_of_keys(row)
        except SampleError as error:
            problem = f"{place}: {error}"
        entry = table.setdefault(image, TableEntry([], place, row if keep_columns else {}, problem))
        entry.captions.extend(captions)
    return table


def read_caption_file(path: Path) -> CaptionFile:
    """Read a caption file (see ``parse_caption_file``).

    Raises:
        SampleError: The file is not readable or does not contain a caption.
    """
    name = path_text(Path(path.name))
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SampleError(f"{name} is not readable ({error})") from error
    return parse_caption_file(name, content, path.suffix.lower() == ".json")


def parse_caption_file(name: str, content: bytes, is_json: bool) -> CaptionFile:
    """Parse the captions of a JSON file, or the lines of a text file that are not blank.

    A JSON file contains an object with the keys "caption", "text", or "captions", whose values are strings or lists of
    strings, or just such a value.

    Args:
        name: What to call the file in errors.
        content: The bytes of the file.
        is_json: Whether it is a JSON file.

    Raises:
        SampleError: The file is not readable or does not contain a caption.
    """
    try:
        text = decode_text(content)
        value = parse_json(text) if is_json else {"captions": text.splitlines()}
    except (ValueError, RecursionError) as error:
        raise SampleError(f"{name} is not readable ({error})") from error
    columns = value if isinstance(value, dict) else {"captions": value}
    try:
        captions = captions_of_keys(columns)
    except SampleError as error:
        raise SampleError(f"{name}: {error}") from error
    if not captions:
        raise SampleError(f"{name} does not contain a caption")
    return CaptionFile(captions, columns if is_json else {})


def decode_text(content: bytes) -> str:
    """Decode a text file.

    Raises:
        ValueError: The file is not UTF-8. UTF-16 without a byte order mark looks like UTF-8 with null characters.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{error}; save it as UTF-8") from error
    if "\0" in text:
        raise ValueError("it contains null characters; save it as UTF-8")
    return text


def _find_image(file: str, parent: Path, folder: Path) -> Path:
    for path in (parent / file, folder / file):
        if is_file(path):
            return path.resolve()
    return parent / file
