"""The layout of WebDataset tars, such as the output of img2dataset."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from datamodules.imports.caption_files import CAPTION_SUFFIXES, decode_text, parse_caption_file
from datamodules.imports.captions import Field, captions_of_fields
from datamodules.imports.entries import Entry, Plan, ReadOptions
from datamodules.imports.json_text import parse_json
from datamodules.imports.splits import describe_splits, splits_of_files
from datamodules.shards.images import IMAGE_SUFFIXES
from datamodules.shards.scan import BrokenShardError, Member, MemberGroup, open_shard, scan_shard
from datamodules.shards.schema import SampleError
from datamodules.shards.skips import SkippedImage
from datamodules.shards.sources import count_kinds, name_of, path_text
from pocketdit.errors import UserError

BROKEN_TAR = "broken tar"
_CAPTIONS = tuple(suffix.removeprefix(".") for suffix in CAPTION_SUFFIXES)
_IMAGES = tuple(suffix.removeprefix(".") for suffix in IMAGE_SUFFIXES)


@dataclass(frozen=True)
class Tars:
    """Tars in which the members of a sample share a name up to the first dot.

    The ID of a sample is the path of the tar relative to the folder, and the key.

    Attributes:
        folder: The folder of the tars.
        tars: The tars in order.
        others: Other files of the folder.
    """

    folder: Path
    tars: tuple[Path, ...]
    others: tuple[Path, ...] = ()

    @cached_property
    def tables(self) -> dict[Path, Path]:
        """The Parquet file that img2dataset has written next to a tar."""
        known = set(self.others)
        return {tar: table for tar in self.tars if (table := tar.with_suffix(".parquet")) in known}


def plan_tars(layout: Tars, options: ReadOptions) -> Plan:
    """Plan to read tars, each of which is a unit."""
    splits = splits_of_files(layout.tars, layout.folder)
    used = [tar for tar in layout.tars if not splits or splits[tar] is not None]
    left_out = len(layout.tars) - len(used)
    units = [
        TarUnit(tar, name_of(tar, layout.folder), tar.stat().st_size, options, layout.tables.get(tar), splits.get(tar))
        for tar in used
    ]
    kind = "the output of img2dataset" if layout.tables else "WebDataset"
    return Plan(
        description=f"tars ({kind}, {len(layout.tars)} {'tar' if len(layout.tars) == 1 else 'tars'})",
        units=lambda: units,
        files=[*used, *(table for tar, table in layout.tables.items() if tar in used)],
        total=sum(unit.size for unit in units),
        counts_bytes=True,
        splits=describe_splits(splits, layout.folder) if splits else None,
        notes=lambda: _notes(layout, left_out),
    )


def _notes(layout: Tars, left_out: int) -> list[str]:
    notes = [f"tars of other splits, which are not read: {left_out}"] if left_out else []
    tables = set(layout.tables.values())
    statistics = {tar.with_name(f"{tar.stem}_stats.json") for tar in layout.tars}
    unused = [path for path in layout.others if path not in tables and path not in statistics]
    if unused:
        notes.append(f"other files, which are not read: {len(unused)} ({count_kinds(unused)})")
    if failed := _failed_downloads(layout.tables.values()):
        causes = ", ".join(f"{count} {status}" for status, count in failed.most_common())
        notes.append(f"rows that img2dataset could not download: {failed.total()} ({causes})")
    return notes


def _failed_downloads(tables: Iterable[Path]) -> Counter[str]:
    failed: Counter[str] = Counter()
    for path in tables:
        try:
            if "status" in pq.read_schema(path).names:
                failed.update(pq.read_table(path, columns=["status"]).column("status").to_pylist())
        except (OSError, ValueError, pa.ArrowException):
            continue  # reading the tar reports the damaged file
    del failed["success"]
    return failed


@dataclass(frozen=True)
class TarUnit:
    """A tar.

    Attributes:
        path: Path of the file.
        name: Name of the tar in IDs and messages.
        size: Number of bytes.
        options: How to read it.
        table: A Parquet file with further columns by "key".
        split: The split of its samples, or None.
    """

    path: Path
    name: str
    size: int
    options: ReadOptions
    table: Path | None = None
    split: str | None = None

    def read(self) -> Iterator[Entry | SkippedImage]:
        """Yield the samples up to the first unreadable byte."""
        try:
            columns = self._further_columns()
            with open_shard(self.path) as file:
                yield from read_samples(file, self.name, self.options, columns, self.split)
        except OSError as error:
            yield SkippedImage(self.name, f"cannot be read ({error.strerror})", BROKEN_TAR)
        except BrokenShardError as error:
            yield SkippedImage(self.name, error.reason, BROKEN_TAR)

    def _further_columns(self) -> dict[str, dict[str, Any]]:
        if self.table is None or not self.options.columns:
            return {}
        try:
            return _rows_by_key(self.table, self.options.columns)
        except (OSError, ValueError, pa.ArrowException) as error:
            raise UserError(f"{self.table}: not readable as Parquet ({error})") from error


def _rows_by_key(table: Path, columns: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    with pq.ParquetFile(table) as file:
        names = [name for name in file.schema_arrow.names if name in ("key", *columns)]
        rows = file.read(columns=names).to_pylist() if "key" in names else []
    return {str(row["key"]): row for row in rows}


def read_samples(
    file: BinaryIO,
    name: str,
    options: ReadOptions,
    columns: Mapping[str, dict[str, Any]],
    split: str | None,
) -> Iterator[Entry | SkippedImage]:
    """Yield the samples of a tar, and what cannot be used.

    Args:
        file: The tar.
        name: What to call it in IDs and messages.
        options: How to read it.
        columns: Further columns by key.
        split: The split of its samples, or None.
    """
    seen: set[str] = set()
    try:
        for group in scan_shard(file):
            identity = path_text(Path(name) / group.key)
            if group.key in seen:
                yield SkippedImage(identity, "an earlier sample of the tar has the same key", "repeated key")
                continue
            seen.add(group.key)
            yield _Sample(file, group, options).entry(identity, columns.get(group.key, {}), split)
        if not seen:
            yield SkippedImage(name, "contains no sample", BROKEN_TAR)
    except BrokenShardError as error:
        yield SkippedImage(name, f"not readable from byte {error.offset} ({error.reason})", BROKEN_TAR)


class _Sample:
    """The members of one sample, which are read when they are needed."""

    def __init__(self, file: BinaryIO, group: MemberGroup, options: ReadOptions) -> None:
        self._file, self._group, self._options = file, group, options
        self._members = {member.extension: member for member in group.members}

    def entry(self, identity: str, columns: dict[str, Any], split: str | None) -> Entry | SkippedImage:
        if problem := self._group.problem():
            return SkippedImage(identity, problem, "unusable members")
        names = " ".join(self._members)
        if (image := self._image()) is None:
            expected = self._options.image_field or "an image"
            return SkippedImage(identity, f"{expected} is not among the members: {names}", "no image")
        try:
            captions, found = self._captions()
        except SampleError as error:
            return SkippedImage(identity, str(error), "no caption")
        if not captions:
            return SkippedImage(identity, f"the members contain no caption: {names}", "no caption")
        return Entry(identity, self._read(image), tuple(dict.fromkeys(captions)), {**columns, **found}, split)

    def _image(self) -> Member | None:
        if self._options.image_field is not None:
            return self._members.get(self._options.image_field.name.lower())
        return next((member for member in self._group.members if member.extension in _IMAGES), None)

    def _captions(self) -> tuple[list[str], dict[str, Any]]:
        """Return the captions, and the keys of JSON members."""
        found = self._json("json") if self._options.columns and "json" in self._members else {}
        if fields := self._options.caption_fields:
            return captions_of_fields({field.name: self._value(field) for field in fields}, fields), found
        problems = []
        for extension in _CAPTIONS:
            if extension in self._members:
                try:
                    content = parse_caption_file(extension, self._read(self._members[extension]), extension == "json")
                except SampleError as error:
                    problems.append(str(error))
                    continue
                lines = content.captions
                keep = extension == "json" or self._options.captions_per_line
                return lines if keep else [" ".join(lines)], found
        if problems:
            raise SampleError("; ".join(problems))
        return [], found

    def _value(self, field: Field) -> Any:
        extension = field.name.lower()
        if extension not in self._members:
            return None
        if field.keys or extension.split(".")[-1] == "json":
            return self._json(extension)
        try:
            return decode_text(self._read(self._members[extension]))
        except ValueError as error:
            raise SampleError(f"{field} is not readable ({error})") from error

    def _json(self, extension: str) -> dict[str, Any]:
        try:
            value = parse_json(decode_text(self._read(self._members[extension])))
        except (ValueError, RecursionError) as error:
            raise SampleError(f"{extension} is not readable ({error})") from error
        return value if isinstance(value, dict) else {}

    def _read(self, member: Member) -> bytes:
        self._file.seek(member.offset)
        return self._file.read(member.size)
