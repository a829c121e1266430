"""Writes data sets that consist only of indexes, so that runs can train on existing tars without copying them.

Worker processes scan the tars and write the results to files (``tar_scan``). The main process reads these files in
order, assigns splits, and writes the indexes (``tar_index``). As with a build, the data set does not depend on the
number of processes, and an interrupted command keeps the results of the tars that it has finished.
"""

import hashlib
import json
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from datamodules.filters.limits import Filters
from datamodules.imports.entries import ReadOptions
from datamodules.imports.pool import finish_units
from datamodules.imports.splits import divide
from datamodules.imports.tar_listing import TarListing, list_tars
from datamodules.imports.tar_scan import Row, ScanJob, TarToIndex
from datamodules.shards.buckets import BucketShape
from datamodules.shards.index import INDEX_FILE, SplitIndex, serialize_index
from datamodules.shards.index_columns import COLUMNS
from datamodules.shards.losses import CropLosses
from datamodules.shards.replacement import BUILDING, hold_write_lock, remove
from datamodules.shards.report import BuildReport, progress_bar
from datamodules.shards.schema import INFO_FILE, SPLITS, DatasetInfo, is_complete, read_info, serialize_info
from datamodules.shards.skips import SkipLog
from datamodules.shards.tar_index import IN_PLACE, TarRecord, TarSource
from pocketdit.errors import RunError, UserError
from pocketdit.files import write_atomically

_FORMAT = 1  # version of the files that an interrupted command leaves behind
_KEY = "key"  # file that identifies an interrupted command


@dataclass(frozen=True)
class IndexSettings:
    """Settings that, together with the tars, determine an index.

    Attributes:
        reading: How to read the samples.
        filters: Which images to use. The filters for caption length and duplicates are ignored.
        fraction: Share of images that are held out; None means 0.05. It does not apply if the source has splits.
        validation: "same" uses all images for both training and validation.
        base_size: Base size of the buckets for which the report describes the losses from cropping and scaling.
        buckets: Shape of these buckets.
        max_crop: Leave out images that lose more than this share of their area to cropping.
        max_enlargement: Leave out images that are scaled up by more than this factor.
    """

    reading: ReadOptions = field(default_factory=ReadOptions)
    filters: Filters = field(default_factory=Filters)
    fraction: float | None = None
    validation: Literal["held-out", "same"] = "held-out"
    base_size: int = 128
    buckets: BucketShape = "aspect"
    max_crop: float | None = None
    max_enlargement: float | None = None


def index_tars(
    source: str,
    out: Path | None,
    settings: IndexSettings,
    *,
    workers: int = 1,
    overwrite: bool = False,
    progress: bool = True,
) -> BuildReport | None:
    """Write an index of tars.

    Captions are found and samples are divided between the splits as in ``data build``, so that a build from the same
    tars contains the same samples. Only the headers of images are read.

    Args:
        source: Folder of the tars, or its address in remote storage.
        out: Folder of the data set. If None, the data set is written to the folder of the tars.
        settings: Settings of the index.
        workers: Number of processes.
        overwrite: Replace an existing index.
        progress: Show a progress bar.

    Returns:
        The report, or None if the same index already exists.

    Raises:
        UserError: The source contains no usable sample, or ``out`` already contains a data set.
        ConfigError: An address is invalid, or a package for it is missing.
        RunError: The index cannot be written, or a process was killed.
    """
    listing = list_tars(source, out, settings.reading)
    if listing.splits and (settings.fraction is not None or settings.validation == "same"):
        raise UserError(f"validation: {listing.splits}; omit --validation, or index one of these folders")
    folder = listing.folder if out is None else out
    key = _key_of(settings, listing)
    hint = "; pass a folder for the index instead of --in-place" if out is None else ""
    with _writing(folder, hint):
        if is_complete(folder) and _is_same(folder, key, overwrite):
            return None
        building = folder / BUILDING
        if not (building / _KEY).is_file() or (building / _KEY).read_text() != key:
            remove(building)
            building.mkdir()
            write_atomically(building / _KEY, key)
        report = _write(source, folder, listing, settings, key, workers, progress)
        remove(building)
    return report


@contextmanager
def _writing(folder: Path, hint: str) -> Iterator[None]:
    """Hold a folder's lock, and add the folder's path to errors of the operating system, such as a full disk."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with hold_write_lock(folder):
            yield
    except OSError as error:
        raise RunError(f"{folder}: cannot be written ({error.strerror or error}){hint}") from error


def _is_same(folder: Path, key: str, overwrite: bool) -> bool:
    """Return whether the complete data set in a folder is already the requested index.

    Raises:
        UserError: The folder contains another data set, which may not be replaced.
    """
    info = read_info(folder)
    if info.tars is None:
        raise UserError(
            f"{folder}: already contains a data set in shards, which needs no index; train on it directly, or choose "
            "another folder"
        )
    if (info.imported or {}).get("key") == key and not overwrite:
        return True
    if not overwrite:
        raise UserError(
            f"{folder}: already contains an index that was written with other options, or before the tars changed; "
            "choose another folder, or pass --overwrite"
        )
    return False


def _key_of(settings: IndexSettings, listing: TarListing) -> str:
    """Return a hash of everything that determines the result."""
    losses = CropLosses(settings.base_size, settings.buckets)
    digest = hashlib.sha256(repr([_FORMAT, listing.address, settings, losses]).encode())
    for tar in listing.tars:
        table = tar.table.stat().st_mtime_ns if tar.table else None
        digest.update(json.dumps([tar.name, tar.size, tar.version, tar.split, table]).encode())
    return digest.hexdigest()


class _Sample(NamedTuple):
    """A scanned sample that has not been assigned to a split yet."""

    tar: int
    row: Row
    split: str | None

    @property
    def position(self) -> float:
        return self.row.position


class _SplitColumns:
    """The columns of a split's index. They require 24 bytes of memory per sample."""

    def __init__(self) -> None:
        self.tars: list[int] = []  # numbers of the tars that contain samples of the split
        self._columns = {name: array("q" if dtype is np.int64 else "i") for name, dtype in COLUMNS.items()}

    def __len__(self) -> int:
        return len(self._columns["shard"])

    def add(self, sample: _Sample) -> None:
        if not self.tars or self.tars[-1] != sample.tar:
            self.tars.append(sample.tar)
        values = (len(self.tars) - 1, *sample.row[:4])
        for column, value in zip(self._columns.values(), values, strict=True):
            column.append(value)

    def index(self, folder: Path, names: list[str]) -> SplitIndex:
        columns: dict[str, Any] = {name: np.frombuffer(column, COLUMNS[name]) for name, column in self._columns.items()}
        return SplitIndex(folder=folder, kind="image", shards=tuple(names), **columns)


def _write(
    source: str, folder: Path, listing: TarListing, settings: IndexSettings, key: str, workers: int, progress: bool
) -> BuildReport:
    losses = CropLosses(settings.base_size, settings.buckets)
    limits = settings.max_crop, settings.max_enlargement
    job = ScanJob(folder / BUILDING, settings.reading, settings.filters, losses, *limits)
    splits: dict[str, _SplitColumns] = {split: _SplitColumns() for split in SPLITS}
    headers: list[str] = []
    skips = SkipLog()
    fraction = 0.05 if settings.fraction is None else settings.fraction

    def samples() -> Iterator[_Sample]:
        with progress_bar(sum(tar.size for tar in listing.tars), progress, "B", doing="indexing") as bar:
            for number, tar in finish_units(listing.tars, job, workers):
                scan = job.read(number)
                headers.append(scan.headers)
                skips.extend(scan.skipped)
                for row in scan.rows:
                    losses.add(row.width, row.height, listing.sample_id(tar, row.key))
                    yield _Sample(number, row, tar.split)
                bar.update(tar.size)

    kept = 0
    for split, sample in divide(samples(), listing.splits is not None, settings.validation, fraction):
        splits[split].add(sample)
        kept += split == "train" or settings.validation != "same"
    if not len(splits["train"]):
        first = f"; the first problem is: {skips.entries[0]}" if skips.entries else ""
        raise UserError(f"{source}: none of the {skips.total} samples is usable for training{first}")
    imported = {
        "layout": listing.description,
        "images": kept + skips.total,
        "left_out": dict(skips.by_rule.most_common()),
        "key": key,
    }
    _publish(folder, listing, settings, splits, _records(listing.tars, headers), imported)
    notes = [f"layout: {listing.description}", *([listing.splits] if listing.splits else []), losses.describe()]
    return BuildReport(folder, len(splits["train"]), len(splits["validation"]), skips, [*notes, *listing.notes()])


def _records(tars: Iterable[TarToIndex], headers: list[str]) -> list[TarRecord]:
    return [TarRecord(tar.name, tar.size, tar.version, hash_) for tar, hash_ in zip(tars, headers, strict=True)]


def _publish(
    folder: Path,
    listing: TarListing,
    settings: IndexSettings,
    splits: dict[str, _SplitColumns],
    records: list[TarRecord],
    imported: dict[str, object],
) -> None:
    """Write the indexes and then dataset.json. The data set is incomplete until dataset.json exists."""
    tars = TarSource(listing.address or IN_PLACE, settings.reading.member_rules)
    digest = hashlib.sha256(json.dumps([tars.describe() | {"address": ""}, records]).encode())
    (folder / INFO_FILE).unlink(missing_ok=True)
    for split, columns in splits.items():
        own = [records[number] for number in columns.tars]
        index = columns.index(folder / split, [record.name for record in own])
        digest.update(index.digest.encode())
        write_atomically(index.folder / INDEX_FILE, serialize_index(index, own))
    info = DatasetInfo(
        kind="image",
        name=listing.name,
        source=listing.source,
        samples={split: len(columns) for split, columns in splits.items()},
        fingerprint=digest.hexdigest()[:16],
        validation_is_train=settings.validation == "same",
        imported=imported,
        tars=tars.describe(),
    )
    write_atomically(folder / INFO_FILE, serialize_info(info))
