"""The layout of Parquet files that contain the bytes of images, as on the Hugging Face Hub."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from datamodules.captions.fields import CAPTION_KEYS, ColumnGroup, Field, captions_of_fields, captions_of_keys, value_of
from datamodules.imports.entries import Entry, Plan, ReadOptions
from datamodules.imports.splits import describe_splits, splits_of_files
from datamodules.shards.schema import SampleError
from datamodules.shards.skips import SkippedImage
from datamodules.shards.sources import count_kinds, name_of
from pocketdit.errors import UserError

BROKEN_PARQUET = "broken Parquet file"
_IMAGE_COLUMNS = ("image", "img", "jpg", "jpeg", "png", "webp", "bytes", "image_bytes")
_ROWS_PER_UNIT, _ROWS_PER_BATCH = 256, 16


@dataclass(frozen=True)
class ParquetFiles:
    """Parquet files in which each row contains an image.

    The ID of a sample consists of the path of the file relative to the folder and the row number, counted from 0.

    Attributes:
        folder: The folder of the files.
        files: The files in order.
        others: Other files in the folder.
    """

    folder: Path
    files: tuple[Path, ...]
    others: tuple[Path, ...] = ()


def image_column(path: Path) -> str | None:
    """Return the column of a Parquet file that contains images, or None if there is not exactly one such column.

    An image column is a struct of "bytes" and "path" or, if the file has no such struct, a column of bytes with one of
    the names in ``_IMAGE_COLUMNS``.

    Raises:
        UserError: The file cannot be read.
    """
    try:
        schema = pq.read_schema(path)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise UserError(f"{path}: cannot be read as Parquet ({error})") from error
    structs = [field.name for field in schema if _is_image_struct(field.type)]
    binary = [field.name for field in schema if _is_binary(field.type) and field.name.lower() in _IMAGE_COLUMNS]
    columns = structs or binary
    return columns[0] if len(columns) == 1 else None


def plan_parquet(layout: ParquetFiles, options: ReadOptions) -> Plan:
    """Return a plan for reading Parquet files in units of one or more row groups.

    Raises:
        UserError: A file cannot be read, or a column is missing.
    """
    splits = splits_of_files(layout.files, layout.folder)
    used = [path for path in layout.files if not splits or splits[path] is not None]
    units = [unit for path in used for unit in _units(path, layout.folder, options, splits.get(path))]
    rows = sum(unit.size for unit in units)
    left_out = len(layout.files) - len(used)
    return Plan(
        description=f"Parquet with images ({len(layout.files)} {'file' if len(layout.files) == 1 else 'files'})",
        units=lambda: units,
        files=used,
        images=rows,
        total=rows,
        splits=describe_splits(splits, layout.folder) if splits else None,
        notes=lambda: _notes(layout, left_out),
    )


def _notes(layout: ParquetFiles, left_out: int) -> list[str]:
    notes = [f"Parquet files of other splits, which are not read: {left_out}"] if left_out else []
    if layout.others:
        notes.append(f"other files, which are not read: {len(layout.others)} ({count_kinds(layout.others)})")
    return notes


def _units(path: Path, folder: Path, options: ReadOptions, split: str | None) -> Iterator["RowGroups"]:
    image = options.image_field or Field(_require_image_column(path))
    captions = options.caption_fields
    try:
        with pq.ParquetFile(path) as file:
            names, metadata = list(file.schema_arrow.names), file.metadata
            _check_columns(path, names, image, captions, options.columns)
            sizes = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    except (OSError, ValueError, pa.ArrowException) as error:
        raise UserError(f"{path}: cannot be read as Parquet ({error})") from error
    wanted = {image.name, *(field.name for field in captions), *options.columns}
    wanted |= set() if captions else set(CAPTION_KEYS)
    columns = tuple(name for name in names if name in wanted)
    first, start, count = 0, 0, 0
    for number, size in enumerate(sizes):
        count += size
        if count >= _ROWS_PER_UNIT or number == len(sizes) - 1:
            groups = (first, number + 1)
            yield RowGroups(path, name_of(path, folder), groups, start, count, image, captions, columns, split)
            first, start, count = number + 1, start + count, 0


def _require_image_column(path: Path) -> str:
    if (column := image_column(path)) is None:
        columns = ", ".join(pq.read_schema(path).names)
        raise UserError(
            f"{path}: the image column is missing or ambiguous; specify it with --image-field; the columns are: "
            f"{columns}"
        )
    return column


def _check_columns(
    path: Path, names: list[str], image: Field, captions: tuple[Field, ...], where: tuple[str, ...]
) -> None:
    groups = [ColumnGroup((field.name,)) for field in (image, *captions)]
    groups += [] if captions else [ColumnGroup(CAPTION_KEYS)]
    groups += [ColumnGroup((name,)) for name in where]
    for group in groups:
        if not set(group.names) & set(names):
            hint = "" if captions else "; specify caption columns with --caption-field"
            raise UserError(f"{path}: the column {group} is missing; the columns are: {', '.join(names)}{hint}")


@dataclass(frozen=True)
class RowGroups:
    """Adjacent row groups of a Parquet file.

    Attributes:
        path: Path of the file.
        name: Name of the file in IDs and messages.
        groups: The indices of the first row group and of the row group after the last.
        start: Number of rows in the file before the first row group.
        size: Number of rows.
        image: Column of the image.
        captions: Columns of the captions. If empty, the columns with the usual names are used.
        columns: The columns to read.
        split: The split of the rows, or None.
    """

    path: Path
    name: str
    groups: tuple[int, int]
    start: int
    size: int
    image: Field
    captions: tuple[Field, ...]
    columns: tuple[str, ...]
    split: str | None

    def read(self) -> Iterator[Entry | SkippedImage]:
        """Yield the images of the rows up to the first row that cannot be read."""
        number = self.start
        try:
            with pq.ParquetFile(self.path, buffer_size=1 << 20, pre_buffer=False) as file:
                groups = list(range(*self.groups))
                batches = file.iter_batches(_ROWS_PER_BATCH, row_groups=groups, columns=list(self.columns))
                for row in (row for batch in batches for row in batch.to_pylist()):
                    yield self._entry(number, row)
                    number += 1
        except (OSError, ValueError, pa.ArrowException) as error:
            end = self.start + self.size - 1
            reason = " ".join(str(error).split())
            yield SkippedImage(self.name, f"rows {number} to {end} cannot be read ({reason})", BROKEN_PARQUET)

    def _entry(self, number: int, row: dict[str, Any]) -> Entry | SkippedImage:
        identity = f"{self.name}/{number}"
        content = _content(value_of(row, self.image), self.path)
        if content is None:
            return SkippedImage(identity, f"{self.image} contains no image", "no image")
        try:
            captions = captions_of_fields(row, self.captions) if self.captions else captions_of_keys(row)
        except SampleError as error:
            return SkippedImage(identity, str(error), "no caption")
        if not captions:
            return SkippedImage(identity, "the caption is empty", "no caption")
        columns = {key: value for key, value in row.items() if key != self.image.name}
        return Entry(identity, content, tuple(dict.fromkeys(captions)), columns, self.split)


def _content(value: object, path: Path) -> bytes | Path | None:
    """Return the bytes of an image, or its path if the row contains no bytes."""
    match value:
        case bytes() as content:
            return content
        case {"bytes": bytes() as content}:
            return content
        case {"path": str(name)}:
            return path.parent / name
    return None


def _is_image_struct(kind: Any) -> bool:
    return pa.types.is_struct(kind) and {field.name for field in kind} == {"bytes", "path"}


def _is_binary(kind: Any) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))
