"""The layout of a table with the paths and captions of images."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from datamodules.captions.fields import CAPTION_KEYS, ColumnGroup, Field, captions_of_fields, captions_of_keys
from datamodules.imports.caption_files import FILE_KEYS
from datamodules.imports.entries import Entry, Plan, ReadOptions, runs_of
from datamodules.imports.tables import TableRow, read_rows
from datamodules.shards.schema import SampleError
from datamodules.shards.skips import SkippedImage
from datamodules.shards.sources import path_text
from pocketdit.errors import UserError

PATH_KEYS = (*FILE_KEYS, "path", "filepath", "file_path", "image_path")


@dataclass(frozen=True)
class PathTable:
    """A table (CSV, TSV, JSON lines or Parquet) in which each row contains the path of an image file.

    Paths are relative to the folder of the table. The ID of a sample consists of the name of the table and the number
    of the line or row.

    Attributes:
        path: The table.
    """

    path: Path


def plan_path_table(layout: PathTable, options: ReadOptions) -> Plan:
    """Return a plan for reading a table in units of several rows. The table is never in memory as a whole.

    Raises:
        UserError: The table cannot be read, or a column is missing.
    """
    paths = ColumnGroup((options.image_field.name,) if options.image_field else PATH_KEYS)
    fields = options.caption_fields
    captions = tuple(ColumnGroup((field.name,)) for field in fields) or (ColumnGroup(CAPTION_KEYS),)
    required = (paths, *captions, *(ColumnGroup((name,)) for name in options.columns))
    total = 0
    for row in read_rows(layout.path, required):  # checks the whole table first, because reading images takes hours
        total += 1
        _path_of(layout.path, row, paths)

    def entries() -> Iterator[Entry | SkippedImage]:
        for row in read_rows(layout.path, required):
            yield _entry(layout.path, row, _path_of(layout.path, row, paths), fields, bool(options.columns))

    return Plan(
        description=f"a table of paths ({path_text(Path(layout.path.name))}, {total} rows)",
        units=lambda: runs_of(entries()),
        files=[layout.path],
        images=total,
        total=total,
    )


def _path_of(table: Path, row: TableRow, keys: ColumnGroup) -> str:
    path = next((row.cells[key] for key in keys.names if row.cells.get(key)), None)
    if not isinstance(path, str):
        problem = f"{path!r} is not a path" if path is not None else f"the column {keys} is missing or empty"
        raise UserError(f"{table}: {row.place}: {problem}")
    return path.strip()


def _entry(
    table: Path, row: TableRow, path: str, fields: tuple[Field, ...], keep_columns: bool
) -> Entry | SkippedImage:
    identity = path_text(Path(f"{table.name}/{row.number}"))
    try:
        captions = captions_of_fields(row.cells, fields) if fields else captions_of_keys(row.cells)
    except SampleError as error:
        return SkippedImage(identity, str(error), "no caption")
    if not captions:
        return SkippedImage(identity, "the caption is empty", "no caption")
    columns = row.cells if keep_columns else {}
    return Entry(identity, table.parent / path, tuple(dict.fromkeys(captions)), columns)
