"""An index of where each sample of a split is stored, cached next to the shards and rebuilt when they change."""

import hashlib
import json
import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from datamodules.shards.scan import BrokenShardError, MemberGroup, open_shard, scan_shard
from datamodules.shards.schema import Kind, SampleError, parse_metadata, payload_extension
from pocketdit.files import write_atomically
from pocketdit.names import one_line

_LOG = logging.getLogger(__name__)
_CACHE = "index.safetensors"
_CACHE_VERSION = 2
_COLUMNS: dict[str, type[np.signedinteger[Any]]] = {
    "shard": np.int32,
    "offset": np.int64,
    "length": np.int32,
    "width": np.int32,
    "height": np.int32,
}


class Skipped(NamedTuple):
    """An unusable sample or an unreadable end of a shard.

    Attributes:
        shard: The shard, for example "train/00003.tar".
        sample: "sample KEY", or "byte N" if the shard is unreadable from that byte onward.
        reason: Why it cannot be used.
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

    def __len__(self) -> int:
        return len(self.shard)

    @cached_property
    def digest(self) -> str:
        """A hash of the rows, which does not depend on the location of the files."""
        digest = hashlib.sha256(json.dumps(self.shards).encode())
        for name in _COLUMNS:
            digest.update(getattr(self, name).tobytes())
        return digest.hexdigest()[:16]

    def disagreement(self, recorded: int) -> str | None:
        """Return how the shards differ from the number of samples in dataset.json, or None if they do not.

        A shard may be missing, or the shards may come from several builds.
        """
        if len(self) == recorded:
            return None
        return f"{self.folder.name}: {len(self)} readable samples, but dataset.json records {recorded}"

    def shard_path(self, row: int) -> str:
        """Return the path of a row's shard in the data set, for example "train/00003.tar"."""
        return f"{self.folder.name}/{self.shards[self.shard[row]]}"


def load_index(dataset: Path, split: str, kind: Kind) -> SplitIndex:
    """Load a split's index from its cache, or build it if the shards have changed.

    If the folder is read-only, the index is kept in memory only.
    """
    folder = dataset / split
    shards = sorted(folder.glob("*.tar"))
    stamp = json.dumps([_CACHE_VERSION, kind, [(path.name, *_size_and_time(path)) for path in shards]])
    index = _read_cache(folder, kind, stamp)
    if index is None:
        index = build_index(folder, shards, kind)
        try:
            write_atomically(folder / _CACHE, _serialize(index, stamp))
        except OSError as error:
            _LOG.info("%s: the index is kept in memory only (%s)", folder, error)
    return index


def _size_and_time(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:  # for example, a link to a file that does not exist
        return -1, -1
    return status.st_size, status.st_mtime_ns


def build_index(folder: Path, shards: list[Path], kind: Kind) -> SplitIndex:
    """Build an index from the headers and JSON members of all shards."""
    rows: list[tuple[int, int, int, int, int]] = []
    skipped: list[Skipped] = []
    for number, path in enumerate(shards):
        shard = f"{folder.name}/{path.name}"
        before = len(rows), len(skipped)
        try:
            with open_shard(path) as file:
                for group in scan_shard(file):
                    try:
                        width, height = _image_size(file, group, kind)
                        rows.append((number, group.offset, group.length, width, height))
                    except SampleError as error:
                        skipped.append(Skipped(shard, f"sample {group.key}", str(error)))
        except BrokenShardError as error:
            skipped.append(Skipped(shard, f"byte {error.offset}", error.reason))
        except OSError as error:
            skipped.append(Skipped(shard, "byte 0", f"cannot be read ({error.strerror})"))
        if before == (len(rows), len(skipped)):
            skipped.append(Skipped(shard, "byte 0", "contains no sample"))
    table = list(zip(*rows, strict=True)) or [()] * len(_COLUMNS)
    columns = {name: np.array(table[i], dtype=dtype) for i, (name, dtype) in enumerate(_COLUMNS.items())}
    return SplitIndex(folder=folder, kind=kind, shards=tuple(p.name for p in shards), skipped=tuple(skipped), **columns)


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


def _serialize(index: SplitIndex, stamp: str) -> bytes:
    columns = {name: getattr(index, name) for name in _COLUMNS}
    content: bytes = save(columns, metadata={"stamp": stamp, "skipped": json.dumps(index.skipped)})
    return content


def _read_cache(folder: Path, kind: Kind, stamp: str) -> SplitIndex | None:
    path = folder / _CACHE
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("stamp") != stamp:
                return None
            columns = {name: file.get_tensor(name) for name in _COLUMNS}
        skipped = tuple(Skipped(*entry) for entry in json.loads(metadata["skipped"]))
    except (SafetensorError, OSError, KeyError, TypeError, ValueError):
        return None
    shards = tuple(shard[0] for shard in json.loads(stamp)[2])
    if not _is_consistent(columns, len(shards)):
        return None
    return SplitIndex(folder=folder, kind=kind, shards=shards, skipped=skipped, **columns)


def _is_consistent(columns: dict[str, NDArray[Any]], shards: int) -> bool:
    """Return whether the columns of a cache describe samples of these shards."""
    if any(columns[name].dtype != dtype or columns[name].ndim != 1 for name, dtype in _COLUMNS.items()):
        return False
    shard = columns["shard"]
    in_order = bool((np.diff(shard) >= 0).all() and (shard >= 0).all() and (shard < shards).all())
    positive = all((columns[name] > 0).all() for name in ("length", "width", "height"))
    return in_order and positive and len({len(column) for column in columns.values()}) == 1
