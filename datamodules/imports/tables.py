"""Reads the rows of tables (CSV, TSV, JSON lines and Parquet) one after the other."""

import csv
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from datamodules.captions.fields import ColumnGroup
from datamodules.captions.json_text import parse_json
from pocketdit.errors import UserError

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
_BATCH = 1024  # number of rows of a Parquet file that are read at a time


class _Dialect(csv.excel):
    strict = True
    skipinitialspace = True


class TableRow(NamedTuple):
    """A row of a table.

    Attributes:
        place: Position of the row for messages, such as "line 3" or "row 3", counted from 1.
        number: The number of the line or row.
        cells: Mapping from column names to values.
    """

    place: str
    number: int
    cells: dict[str, Any]


def read_rows(path: Path, required: tuple[ColumnGroup, ...]) -> Iterator[TableRow]:
    """Yield the rows that are not empty. The values in CSV and TSV files are text.

    Args:
        path: The table.
        required: Groups of columns. The table must have at least one column of each group.

    Raises:
        UserError: A column is missing or appears twice, a row has too many cells, or the file cannot be read.
    """
    try:
        match path.suffix.lower():
            case ".parquet":
                yield from _read_parquet(path, required)
            case ".jsonl":
                yield from _read_json_lines(path)
            case _:
                yield from _read_csv(path, required)
    except (ValueError, OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: cannot be read as a table ({error})") from error


def parquet_columns(path: Path) -> list[str]:
    """Return the names of a Parquet file's columns.

    Raises:
        UserError: The file cannot be read.
    """
    try:
        return list(pq.read_schema(path).names)
    except (ValueError, OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: cannot be read as Parquet ({error})") from error


def _read_parquet(path: Path, required: tuple[ColumnGroup, ...]) -> Iterator[TableRow]:
    with pq.ParquetFile(path) as file:
        names = list(file.schema_arrow.names)
        _check_columns(path, names, required)
        number = 0
        for batch in file.iter_batches(batch_size=_BATCH):
            for cells in batch.to_pylist():
                number += 1
                yield TableRow(f"row {number}", number, cells)


def _read_json_lines(path: Path) -> Iterator[TableRow]:
    for number, line in enumerate(_lines(path), start=1):
        if line.strip():
            yield TableRow(f"line {number}", number, _parse_json_row(path, number, line))


def _parse_json_row(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = parse_json(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: line {number}: not valid JSON ({error})") from error
    if not isinstance(row, dict):
        raise UserError(f"{path}: line {number}: not a JSON object")
    return row


def _read_csv(path: Path, required: tuple[ColumnGroup, ...]) -> Iterator[TableRow]:
    delimiter = _delimiter(path, required)
    reader = csv.reader(_lines(path), _Dialect, delimiter=delimiter)
    try:
        columns = _columns(reader)
        _check_columns(path, columns, required)
        for cells in reader:
            if len(cells) > len(columns):
                raise UserError(
                    f"{path}: line {reader.line_num}: {len(cells)} cells, but there are {len(columns)} columns; "
                    f"enclose captions that contain {delimiter!r} in double quotes"
                )
            if any(cell.strip() for cell in cells):
                number = reader.line_num
                yield TableRow(f"line {number}", number, dict(zip(columns, cells, strict=False)))
    except csv.Error as error:
        raise UserError(f"{path}: line {reader.line_num}: the double quotes do not match ({error})") from error


def _lines(path: Path) -> Iterator[str]:
    """Yield the lines of a text file.

    Raises:
        ValueError: The file is not UTF-8, or contains null characters, as UTF-16 without a byte order mark does.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            for line in file:
                if "\0" in line:
                    raise ValueError("it contains null characters; save the file as UTF-8")
                yield line
    except UnicodeDecodeError as error:
        raise ValueError(f"{error}; save the file as UTF-8") from error


def _delimiter(path: Path, required: tuple[ColumnGroup, ...]) -> str:
    """Return a table's delimiter. Spreadsheet programs also write .csv files with semicolons or tabs."""
    if path.suffix.lower() == ".tsv":
        return "\t"
    for delimiter in ",;\t":
        with suppress(csv.Error):
            columns = set(_columns(csv.reader(_lines(path), _Dialect, delimiter=delimiter)))
            if all(columns & set(group.names) for group in required):
                return delimiter
    return ","


def _columns(rows: Iterator[list[str]]) -> list[str]:
    return [column.strip() for column in next(rows, [])]


def _check_columns(path: Path, columns: list[str], required: tuple[ColumnGroup, ...]) -> None:
    for group in required:
        if not set(group.names) & set(columns):
            raise UserError(f"{path}: the column {group} is missing; the columns are: {', '.join(columns) or 'none'}")
        if twice := [name for name in group.names if columns.count(name) > 1]:
            raise UserError(f"{path}: the column {twice[0]!r} appears twice; rename one of the columns")
