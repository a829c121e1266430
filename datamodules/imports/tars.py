"""The layout of WebDataset tars, such as the output of img2dataset."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from datamodules.captions.members import columns_of
from datamodules.imports.entries import Entry, Plan, ReadOptions
from datamodules.imports.splits import describe_splits, splits_of_files
from datamodules.shards.scan import BrokenShardError, Member, MemberGroup, open_shard, scan_shard
from datamodules.shards.schema import SampleError
from datamodules.shards.skips import SkippedImage
from datamodules.shards.sources import count_kinds, name_of, path_text
from pocketdit.errors import UserError

BROKEN_TAR = "broken tar"


@dataclass(frozen=True)
class Tars:
    """Tars in which the members of a sample have the same name up to the first dot. This name is the sample's key.

    The ID of a sample consists of the path of the tar relative to the folder and the key.

    Attributes:
        folder: The folder of the tars.
        tars: The tars in order.
        others: Other files in the folder.
    """

    folder: Path
    tars: tuple[Path, ...]
    others: tuple[Path, ...] = ()

    @cached_property
    def tables(self) -> dict[Path, Path]:
        """Mapping from tars to the Parquet files that img2dataset has written next to them."""
        known = set(self.others)
        return {tar: table for tar in self.tars if (table := tar.with_suffix(".parquet")) in known}


def tar_units(layout: Tars, options: ReadOptions) -> "list[TarUnit]":
    """Return a unit for each tar that is used for training or validation."""
    splits = splits_of_files(layout.tars, layout.folder)
    return [
        TarUnit(tar, name_of(tar, layout.folder), tar.stat().st_size, options, layout.tables.get(tar), splits.get(tar))
        for tar in layout.tars
        if not splits or splits[tar] is not None
    ]


def plan_tars(layout: Tars, options: ReadOptions) -> Plan:
    """Return a plan for reading tars."""
    splits = splits_of_files(layout.tars, layout.folder)
    units = tar_units(layout, options)
    used = {unit.path for unit in units}
    left_out = len(layout.tars) - len(used)
    kind = "the output of img2dataset" if layout.tables else "WebDataset"
    return Plan(
        description=f"tars ({kind}, {len(layout.tars)} {'tar' if len(layout.tars) == 1 else 'tars'})",
        units=lambda: units,
        files=[*(unit.path for unit in units), *(table for tar, table in layout.tables.items() if tar in used)],
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
            continue  # the damaged file is reported when the tar is read
    del failed["success"]
    return failed


@dataclass(frozen=True)
class TarUnit:
    """A unit that consists of a tar.

    Attributes:
        path: Path of the file.
        name: Name of the tar in IDs and messages.
        size: Number of bytes.
        options: How to read the tar.
        table: A Parquet file with further columns, in which the column "key" identifies the samples.
        split: The split of the tar's samples, or None if the source has no splits.
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
            columns = further_columns(self.table, self.options.columns)
            with open_shard(self.path) as file:
                yield from read_samples(file, self.name, self.options, columns, self.split)
        except OSError as error:
            yield SkippedImage(self.name, f"cannot be read ({error.strerror})", BROKEN_TAR)
        except BrokenShardError as error:
            yield SkippedImage(self.name, error.reason, BROKEN_TAR)


def further_columns(table: Path | None, columns: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Return a mapping from sample keys to columns of the table next to a tar.

    Args:
        table: The table, or None if the tar has no table.
        columns: The columns to which filters refer.

    Raises:
        UserError: The table cannot be read.
    """
    if table is None or not columns:
        return {}
    try:
        return _rows_by_key(table, columns)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise UserError(f"{table}: cannot be read as Parquet ({error})") from error


def _rows_by_key(table: Path, columns: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    with pq.ParquetFile(table) as file:
        names = [name for name in file.schema_arrow.names if name in ("key", *columns)]
        rows = file.read(columns=names).to_pylist() if "key" in names else []
    return {str(row["key"]): row for row in rows}


class GroupContents(NamedTuple):
    """The contents of a sample in a tar.

    Attributes:
        image: The member that contains the image.
        captions: One or more captions.
        columns: Other values, to which filters may refer.
    """

    image: Member
    captions: tuple[str, ...]
    columns: dict[str, object]


def read_samples(
    file: BinaryIO,
    name: str,
    options: ReadOptions,
    columns: Mapping[str, dict[str, Any]],
    split: str | None,
) -> Iterator[Entry | SkippedImage]:
    """Yield the samples of a tar, including those that cannot be used.

    Args:
        file: The tar.
        name: Name of the tar in IDs and messages.
        options: How to read the tar.
        columns: Mapping from sample keys to further columns.
        split: The split of the tar's samples, or None if the source has no splits.
    """
    seen: set[str] = set()
    try:
        for group in scan_shard(file):
            identity = path_text(Path(name) / group.key)
            if group.key in seen:
                yield SkippedImage(identity, "an earlier sample of the tar has the same key", "repeated key")
                continue
            seen.add(group.key)
            found = read_group(file, group, identity, options, columns.get(group.key, {}))
            if isinstance(found, SkippedImage):
                yield found
                continue
            file.seek(found.image.offset)
            yield Entry(identity, file.read(found.image.size), found.captions, found.columns, split)
        if not seen:
            yield SkippedImage(name, "contains no sample", BROKEN_TAR)
    except BrokenShardError as error:
        yield SkippedImage(name, f"cannot be read from byte {error.offset} onward ({error.reason})", BROKEN_TAR)


class _MembersOf(Mapping[str, bytes]):
    """Mapping from extensions to the members of a sample, which are read only when they are accessed."""

    def __init__(self, file: BinaryIO, group: MemberGroup) -> None:
        self._file = file
        self._members = {member.extension: member for member in group.members}

    def __getitem__(self, extension: str) -> bytes:
        member = self._members[extension]
        self._file.seek(member.offset)
        return self._file.read(member.size)

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)


def read_group(
    file: BinaryIO, group: MemberGroup, identity: str, options: ReadOptions, columns: Mapping[str, object]
) -> GroupContents | SkippedImage:
    """Return the image, the captions, and the columns of a sample, or the reason why it cannot be used.

    Args:
        file: The tar.
        group: The members of the sample.
        identity: ID of the sample.
        options: How to read the sample.
        columns: Further columns of the sample.
    """
    if problem := group.problem():
        return SkippedImage(identity, problem, "unusable members")
    members, rules = _MembersOf(file, group), options.member_rules
    try:
        image = rules.image_of(members)
    except SampleError as error:
        return SkippedImage(identity, str(error), "no image")
    try:
        captions = rules.captions_of(members)
        found = columns_of(members, options.columns) if options.columns else {}
    except SampleError as error:
        return SkippedImage(identity, str(error), "no caption")
    return GroupContents(next(m for m in group.members if m.extension == image), captions, {**columns, **found})
