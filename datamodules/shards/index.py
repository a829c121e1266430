"""The index of a split, which records where each sample is stored.

The index file is next to the shards, and is built again if the shards have changed. It records the names, the sizes
and, if known, the hashes of the shards, so it remains valid when the data set is copied.
"""

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from datamodules.captions.members import MemberRules
from datamodules.remote.shards import RemoteShards
from datamodules.shards.index_columns import COLUMNS, fits, read_columns, serialize_columns
from datamodules.shards.scan import BrokenShardError, MemberGroup, open_shard, scan_shard
from datamodules.shards.schema import Kind, SampleError, parse_metadata, payload_extension
from datamodules.shards.sources import path_text
from pocketdit.files import write_atomically
from pocketdit.names import one_line

_LOG = logging.getLogger(__name__)
INDEX_FILE = "index.safetensors"


class Skipped(NamedTuple):
    """An unusable sample, or the unreadable end of a shard.

    Attributes:
        shard: The shard, for example "train/00003.tar".
        sample: "sample KEY", or "byte N" if the shard is unreadable from that byte onward.
        reason: Why the sample or the end of the shard cannot be used.
    """

    shard: str
    sample: str
    reason: str

    def __str__(self) -> str:
        return one_line(f"{self.shard}: {self.sample}: {self.reason}")


@dataclass(frozen=True)
class SplitIndex:
    """The index of a split. Row i of each column describes sample i, in the order of the shards.

    Attributes:
        folder: Folder of the split.
        kind: Whether samples are images or latents.
        shards: File names of the shards.
        shard: (N,) index of the sample's shard in ``shards``.
        offset: (N,) first byte of the sample in its shard.
        length: (N,) size of the sample in bytes, including headers and padding.
        width: (N,) width of the image in pixels.
        height: (N,) height of the image in pixels.
        skipped: Samples and ends of shards that cannot be used.
        remote: Reader of the shards if they are in remote storage. In this case, ``folder`` contains only the index.
        address: Address of the data set if it is in remote storage.
        root: Folder of the shards if it is not ``folder``.
        rules: How to read samples of tars that another program wrote; None for the format of ``schema``.
    """

    folder: Path
    kind: Kind
    shards: tuple[str, ...]
    shard: NDArray[np.int32]
    offset: NDArray[np.int64]
    length: NDArray[np.int32]
    width: NDArray[np.int32]
    height: NDArray[np.int32]
    skipped: tuple[Skipped, ...] = ()
    remote: RemoteShards | None = field(default=None, compare=False)
    address: str | None = None
    root: Path | None = None
    rules: MemberRules | None = None

    def __len__(self) -> int:
        return len(self.shard)

    @cached_property
    def digest(self) -> str:
        """A hash of the rows, which does not depend on the location of the files."""
        digest = hashlib.sha256(json.dumps(self.shards).encode())
        for name in COLUMNS:
            digest.update(getattr(self, name).tobytes())
        return digest.hexdigest()[:16]

    def disagreement(self, recorded: int) -> str | None:
        """Return a message if the number of readable samples differs from the number in dataset.json, otherwise None.

        Possible causes are a missing shard or shards from several builds.
        """
        if len(self) == recorded:
            return None
        return f"{self.folder.name}: {len(self)} readable samples, but dataset.json records {recorded}"

    @property
    def dataset(self) -> str:
        """The folder or the address of the data set."""
        return self.address or str(self.folder.parent)

    def file_of(self, shard: int) -> Path:
        """Return the file of a shard that is not in remote storage."""
        return (self.root or self.folder) / self.shards[shard]

    def plain_name(self, shard: int) -> str:
        """Return the file name for a new shard that contains the samples of shard number ``shard``."""
        return self.shards[shard] if self.rules is None else f"{shard:05d}.tar"

    def shard_path(self, row: int) -> str:
        """Return the path of a row's shard, such as "train/00003.tar", relative to the data set or its tars' folder."""
        name = self.shards[self.shard[row]]
        return f"{self.folder.name}/{name}" if self.rules is None else path_text(Path(name))


class ShardRecord(NamedTuple):
    """The properties by which an index identifies a shard.

    Attributes:
        name: File name of the shard.
        size: Size of the shard in bytes, or -1 if the shard cannot be read.
        sha256: SHA-256 of the shard, or "" if it was not known when the index was built.
    """

    name: str
    size: int
    sha256: str = ""


def load_index(dataset: Path, split: str, kind: Kind) -> SplitIndex:
    """Load the index of a local split, or build it if it is missing or older than the shards.

    If the folder is read-only, the index is kept in memory only.
    """
    folder = dataset / split
    paths = sorted(folder.glob("*.tar"))
    shards = [_record(path) for path in paths]
    path = folder / INDEX_FILE
    stored = None if _is_older(path, paths) else read_index(path, kind)
    if stored is not None and [shard[:2] for shard in stored[1]] == [shard[:2] for shard in shards]:
        return stored[0]
    index = build_index(folder, paths, kind)
    try:
        write_atomically(path, serialize_index(index, shards))
    except OSError as error:
        _LOG.info("%s: the index is kept in memory only (%s)", folder, error)
    return index


def write_index(folder: Path, kind: Kind, hashes: Mapping[str, str]) -> None:
    """Write the index of a new split next to its shards.

    Args:
        folder: Folder of the split.
        kind: Whether samples are images or latents.
        hashes: Mapping from the file names of shards to their SHA-256.
    """
    paths = sorted(folder.glob("*.tar"))
    shards = [ShardRecord(path.name, path.stat().st_size, hashes.get(path.name, "")) for path in paths]
    write_atomically(folder / INDEX_FILE, serialize_index(build_index(folder, paths, kind), shards))


def _record(path: Path) -> ShardRecord:
    try:
        return ShardRecord(path.name, path.stat().st_size)
    except OSError:  # for example, because the shard is a link to a file that does not exist
        return ShardRecord(path.name, -1)


def _is_older(index: Path, shards: Iterable[Path]) -> bool:
    """Return whether a shard was written, moved or replaced after the index."""
    try:
        written = index.stat().st_ctime_ns
        return any(shard.stat().st_ctime_ns > written for shard in shards)
    except OSError:
        return True


def build_index(folder: Path, shards: Sequence[Path], kind: Kind) -> SplitIndex:
    """Build an index from the headers and JSON members of all shards."""
    scans = [scan_rows(path, f"{folder.name}/{path.name}", kind) for path in shards]
    return join_scans(folder, [path.name for path in shards], scans, kind)


class ShardScan(NamedTuple):
    """The part of an index that describes one shard.

    Attributes:
        rows: Offset, length, width and height of each sample.
        skipped: The unusable samples, and the unreadable end of the shard, if any.
    """

    rows: list[tuple[int, int, int, int]]
    skipped: list[Skipped]


def scan_rows(path: Path, name: str, kind: Kind) -> ShardScan:
    """Scan the headers and JSON members of a shard.

    Args:
        path: Path of the shard.
        name: Name of the shard in messages, for example "train/00003.tar".
        kind: Whether samples are images or latents.
    """
    rows: list[tuple[int, int, int, int]] = []
    skipped: list[Skipped] = []
    try:
        with open_shard(path) as file:
            for group in scan_shard(file):
                try:
                    rows.append((group.offset, group.length, *_image_size(file, group, kind)))
                except SampleError as error:
                    skipped.append(Skipped(name, f"sample {group.key}", str(error)))
    except BrokenShardError as error:
        skipped.append(Skipped(name, f"byte {error.offset}", error.reason))
    except OSError as error:
        skipped.append(Skipped(name, "byte 0", f"cannot be read ({error.strerror})"))
    if not rows and not skipped:
        skipped.append(Skipped(name, "byte 0", "contains no sample"))
    return ShardScan(rows, skipped)


def join_scans(folder: Path, shards: Sequence[str], scans: Sequence[ShardScan], kind: Kind) -> SplitIndex:
    """Join the scans of all shards into an index."""
    rows = [(number, *row) for number, scan in enumerate(scans) for row in scan.rows]
    table = list(zip(*rows, strict=True)) or [()] * len(COLUMNS)
    columns: dict[str, Any] = {name: np.array(table[i], dtype=dtype) for i, (name, dtype) in enumerate(COLUMNS.items())}
    skipped = tuple(entry for scan in scans for entry in scan.skipped)
    return SplitIndex(folder=folder, kind=kind, shards=tuple(shards), skipped=skipped, **columns)


def _image_size(file: BinaryIO, group: MemberGroup, kind: Kind) -> tuple[int, int]:
    if problem := group.problem():
        raise SampleError(problem)
    extensions = {member.extension: member for member in group.members}
    if "json" not in extensions:
        raise SampleError("the json member is missing")
    payload_extension(extensions, kind)
    file.seek(extensions["json"].offset)
    metadata = parse_metadata(file.read(extensions["json"].size), kind)
    return metadata["width"], metadata["height"]


def serialize_index(index: SplitIndex, shards: Sequence[NamedTuple]) -> bytes:
    """Return the content of an index file.

    Args:
        index: The index.
        shards: A record of each shard.
    """
    columns = {name: getattr(index, name) for name in COLUMNS}
    return serialize_columns(columns, {"kind": index.kind, "shards": shards, "skipped": index.skipped})


def read_index(path: Path, kind: Kind) -> tuple[SplitIndex, list[ShardRecord]] | None:
    """Read an index file and check that it is consistent. The file is not trusted.

    Returns:
        The index, and the records of its shards. None if the file is missing or damaged, or was written by another
        version.
    """
    content = read_columns(path, kind)
    if content is None:
        return None
    description, columns = content
    try:
        shards = [ShardRecord(str(name), int(size), str(sha256)) for name, size, sha256 in description["shards"]]
        skipped = tuple(Skipped(*map(str, entry)) for entry in description["skipped"])
    except (KeyError, TypeError, ValueError):
        return None
    names = tuple(shard.name for shard in shards)
    is_plain = all("/" not in name and name.endswith(".tar") for name in names)
    if not is_plain or list(names) != sorted(set(names)) or not fits(columns, [shard.size for shard in shards]):
        return None
    return SplitIndex(folder=path.parent, kind=kind, shards=names, skipped=skipped, **columns), shards
