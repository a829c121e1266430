"""Scans a tar for an index, which records the position of each sample and the size of its image."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL.ContainerIO import ContainerIO
from safetensors import safe_open
from safetensors.numpy import save

from datamodules.filters.limits import Filters
from datamodules.imports.entries import ReadOptions, position_of
from datamodules.imports.tars import BROKEN_TAR, further_columns, read_group
from datamodules.imports.work import UNDECODABLE, BuildStoppedError, Columns
from datamodules.remote.shards import RemoteShards
from datamodules.shards.images import ImageError, read_size
from datamodules.shards.losses import CropLosses
from datamodules.shards.reader import tar_sample_id
from datamodules.shards.scan import BrokenShardError, MemberGroup, open_shard, scan_shard
from datamodules.shards.skips import SkippedImage
from datamodules.shards.sources import path_text
from datamodules.shards.tar_index import HeaderHash
from pocketdit.files import write_atomically


@dataclass(frozen=True)
class TarToIndex:
    """A tar to index.

    Attributes:
        name: Path of the tar, relative to the folder of the tars.
        size: Size of the tar in bytes.
        version: Version of the tar (see ``TarRecord``).
        split: The split of the tar's samples, or None if the source has no splits.
        path: The file, if it is on this machine.
        table: A table with further columns, in which the column "key" identifies the samples.
        remote: Reader of the tars if they are in remote storage.
        number: Number of the tar in ``remote``.
    """

    name: str
    size: int
    version: str
    split: str | None
    path: Path | None = None
    table: Path | None = None
    remote: RemoteShards | None = None
    number: int = 0

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Open the tar. A remote tar is downloaded to the node's cache first.

        Raises:
            BrokenShardError: The tar is not a regular file.
            OSError: The tar cannot be read.
            RunError: The tar cannot be downloaded.
        """
        if self.remote is None:
            assert self.path is not None
            with open_shard(self.path) as file:
                yield file
            return
        with self.remote.use(self.number) as descriptor, open_shard(Path(f"/dev/fd/{descriptor}")) as file:
            yield file


class Row(NamedTuple):
    """A row of the index.

    Attributes:
        offset: Position of the sample in the tar.
        length: Number of bytes of the sample in the tar.
        width: Width of the image in pixels.
        height: Height of the image in pixels.
        position: Hash of the sample's ID as a number in [0, 1).
        key: Key of the sample.
    """

    offset: int
    length: int
    width: int
    height: int
    position: float
    key: str


@dataclass
class TarScan:
    """The result of scanning a tar.

    Attributes:
        headers: Hash of the tar's headers (see ``TarRecord``).
        rows: The samples to use.
        skipped: The samples that are left out.
    """

    headers: str = ""
    rows: list[Row] = field(default_factory=list)
    skipped: list[SkippedImage] = field(default_factory=list)


@dataclass(frozen=True)
class ScanJob:
    """A job that scans tars.

    Attributes:
        folder: Folder of the results.
        options: How to read the samples.
        filters: Which images to use.
        losses: Object that measures the cropping losses of images.
        max_crop: Leave out images that lose more than this share of their area to cropping.
        max_enlargement: Leave out images that are scaled up by more than this factor.
    """

    folder: Path
    options: ReadOptions
    filters: Filters
    losses: CropLosses
    max_crop: float | None = None
    max_enlargement: float | None = None

    def is_finished(self, number: int) -> bool:
        """Return whether a tar has been scanned."""
        return self._path(number).is_file()

    def run(self, number: int, unit: TarToIndex, should_stop: Callable[[], bool]) -> None:
        """Scan a tar, and write the result.

        Raises:
            BuildStoppedError: The result is no longer needed.
            UserError: No image of the first tar has a column that the filters need.
        """
        scan = TarScan()
        columns = Columns(self.filters.columns if number == 0 else ())
        try:
            further = further_columns(unit.table, self.options.columns)
            with unit.open() as file:
                for entry in self._scan(file, unit, scan, further, columns):
                    if should_stop():
                        raise BuildStoppedError
                    if isinstance(entry, Row):
                        scan.rows.append(entry)
                    else:
                        scan.skipped.append(entry)
        except OSError as error:
            self._skip_tar(unit, scan, f"cannot be read ({error.strerror or error})")
        except BrokenShardError as error:
            self._skip_tar(unit, scan, error.reason)
        columns.check()
        write_atomically(self._path(number), _serialize(scan))

    def read(self, number: int) -> TarScan:
        """Return the result for a tar that has been scanned."""
        with safe_open(self._path(number), framework="numpy") as file:
            description: dict[str, Any] = json.loads(file.metadata()["scan"])
            columns = [file.get_tensor(name).tolist() for name in Row._fields[:-1]]
        rows = [Row(*values) for values in zip(*columns, description["keys"], strict=True)]
        skipped = [SkippedImage(**entry) for entry in description["skipped"]]
        return TarScan(description["headers"], rows, skipped)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:08d}.safetensors"

    def _skip_tar(self, unit: TarToIndex, scan: TarScan, reason: str) -> None:
        scan.skipped.append(SkippedImage(path_text(Path(unit.name)), reason, BROKEN_TAR))

    def _scan(
        self,
        file: BinaryIO,
        unit: TarToIndex,
        scan: TarScan,
        further: dict[str, dict[str, Any]],
        columns: Columns,
    ) -> Iterator[Row | SkippedImage]:
        """Yield the samples, including those that are left out, and store the hash of the headers in ``scan``."""
        digest, seen = HeaderHash(), set[str]()
        name = path_text(Path(unit.name))
        try:
            for group in scan_shard(file):
                digest.add(group)
                identity = tar_sample_id(unit.name, group.key)
                if group.key in seen:
                    yield SkippedImage(identity, "an earlier sample of the tar has the same key", "repeated key")
                    continue
                seen.add(group.key)
                found = read_group(file, group, identity, self.options, further.get(group.key, {}))
                if isinstance(found, SkippedImage):
                    yield found
                    continue
                columns.add(found.columns)
                yield self._against_filters(identity, found.columns) or self._row(file, group, identity, found.image)
            if not seen:
                yield SkippedImage(name, "contains no sample", BROKEN_TAR)
        except BrokenShardError as error:
            yield SkippedImage(name, f"cannot be read from byte {error.offset} onward ({error.reason})", BROKEN_TAR)
        scan.headers = str(digest)

    def _against_filters(self, identity: str, columns: dict[str, object]) -> SkippedImage | None:
        against = self.filters.rule_against_row(columns)
        return SkippedImage(identity, against[1], against[0]) if against else None

    def _row(self, file: BinaryIO, group: MemberGroup, identity: str, image: Any) -> Row | SkippedImage:
        try:
            width, height = read_size(ContainerIO(file, image.offset, image.size))
        except ImageError as error:
            return SkippedImage(identity, f"cannot be decoded ({error})", UNDECODABLE)
        if rule := self.filters.rule_against_size(width, height):
            return SkippedImage(identity, f"left out: {rule}", rule)
        if excess := self.losses.excess(width, height, self.max_crop, self.max_enlargement):
            return SkippedImage(identity, excess.reason, excess.rule)
        return Row(group.offset, group.length, width, height, position_of(identity), group.key)


def _serialize(scan: TarScan) -> bytes:
    types = (np.int64, np.int64, np.int64, np.int64, np.float64)
    columns = {
        name: np.array([row[i] for row in scan.rows], dtype)
        for i, (name, dtype) in enumerate(zip(Row._fields[:-1], types, strict=True))
    }
    description = {
        "headers": scan.headers,
        "keys": [row.key for row in scan.rows],
        "skipped": list(map(asdict, scan.skipped)),
    }
    content: bytes = save(columns, metadata={"scan": json.dumps(description)})
    return content
