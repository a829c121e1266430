"""Reads the captions of a user's own images from files next to the images or from tables."""

from pathlib import Path
from typing import Any, NamedTuple

from datamodules.captions.fields import CAPTION_KEYS, ColumnGroup, captions_of_keys, missing_key
from datamodules.captions.text_files import CaptionFile, parse_caption_file
from datamodules.imports.tables import TABLE_SUFFIXES, read_rows
from datamodules.shards.schema import SampleError
from datamodules.shards.sources import is_file, path_text
from pocketdit.errors import UserError

FILE_KEYS = ("file", "file_name", "filename", "image")
_TABLES = tuple(f"{name}{suffix}" for name in ("captions", "metadata") for suffix in TABLE_SUFFIXES)


class TableEntry(NamedTuple):
    """The captions of an image in a table.

    Attributes:
        captions: The captions, in the order of the rows.
        place: The table and the line of the image's first row.
        columns: All values of the first row, if they are kept.
        problem: Why the first row has no caption, or "" if it has one.
    """

    captions: list[str]
    place: str
    columns: dict[str, Any]
    problem: str = ""


CaptionTable = dict[Path, TableEntry]


def find_tables(paths: list[Path]) -> list[Path]:
    """Return the caption tables among files. Tables in deeper folders come first, because they are more specific."""
    tables = [path for path in paths if path.name.lower() in _TABLES]
    return sorted(tables, key=lambda path: (-len(path.parts), path.parent, _TABLES.index(path.name.lower())))


def read_table(path: Path, folder: Path, keep_columns: bool = False) -> CaptionTable:
    """Read a caption table.

    The table has the columns "file" (or "file_name", "filename", "image") and "caption" (or "text", "captions"). In
    JSONL and Parquet files, captions may also be lists. File names are relative to the table's folder or, if no such
    file exists, to ``folder``.

    Args:
        path: The table.
        folder: The folder of the images.
        keep_columns: Whether to also keep the other columns.

    Returns:
        A mapping from the path of each image to its captions. An image can have several rows and several captions.

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
        SampleError: The file cannot be read or does not contain a caption.
    """
    name = path_text(Path(path.name))
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SampleError(f"{name} cannot be read ({error})") from error
    return parse_caption_file(name, content, path.suffix.lower() == ".json")


def _find_image(file: str, parent: Path, folder: Path) -> Path:
    for path in (parent / file, folder / file):
        if is_file(path):
            return path.resolve()
    return parent / file
