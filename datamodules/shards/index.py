"""Where every sample of a split lies, as columns; cached beside the shards, rebuilt when they change."""

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

from datamodules.shards.scan import BrokenShardError, MemberGroup, scan_shard
from datamodules.shards.schema import Kind, SampleError, parse_metadata, payload_extension
from pocketdit.files import write_atomically

_LOG = logging.getLogger(__name__)
_CACHE = "index.safetensors"
_CACHE_VERSION = 1
_COLUMNS: dict[str, type[np.signedinteger[Any]]] = {
    "shard": np.int32,
    "offset": np.int64,
    "length": np.int32,
    "width": np.int32,
    "height": np.int32,
}


class Skipped(NamedTuple):
    """A sample (its key, or "byte N" where a shard breaks) that cannot be used, and why."""

    shard: str
    sample: str
    reason: str

    def __str__(self) -> str:
        return f"{self.shard}: {self.sample}: {self.reason}"


@dataclass(frozen=True)
class SplitIndex:
    """Row i of every column is sample i, in the order of the shards.

    Attributes:
        folder: the split's folder; ``shards`` are the names of its files.
        shard: number of the sample's shard.
        offset, length: the sample's bytes in it (headers and padding included).
        width, height: pixels.
        skipped: what the scan could not use.
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
        """The same exactly when the rows are the same, wherever the files lie."""
        digest = hashlib.sha256(json.dumps(self.shards).encode())
        for name in _COLUMNS:
            digest.update(getattr(self, name).tobytes())
        return digest.hexdigest()[:16]

    def place(self, row: int) -> str:
        """The shard of a row, for messages: train/00003.tar."""
        return f"{self.folder.name}/{self.shards[self.shard[row]]}"


def load_index(dataset: Path, split: str, kind: Kind) -> SplitIndex:
    """The index of a split, from the cache if that still fits the shards, else by reading all tar headers.

    A folder that cannot be written to is no error: the index then lives in memory only.
    """
    folder = dataset / split
    shards = sorted(folder.glob("*.tar"))
    files = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in shards]
    stamp = json.dumps([_CACHE_VERSION, kind, files])
    index = _read_cache(folder, kind, stamp)
    if index is None:
        index = build_index(folder, shards, kind)
        try:
            write_atomically(folder / _CACHE, _serialised(index, stamp))
        except OSError as error:
            _LOG.info("%s: index kept in memory (%s)", folder, error)
    return index


def build_index(folder: Path, shards: list[Path], kind: Kind) -> SplitIndex:
    """Reads the headers and JSON members of all ``shards``."""
    rows: list[tuple[int, int, int, int, int]] = []
    skipped: list[Skipped] = []
    for number, path in enumerate(shards):
        place = f"{folder.name}/{path.name}"
        before = len(rows), len(skipped)
        try:
            with path.open("rb") as file:
                for group in scan_shard(file):
                    try:
                        width, height = _size(file, group, kind)
                        rows.append((number, group.offset, group.length, width, height))
                    except SampleError as error:
                        skipped.append(Skipped(place, f"sample {group.key}", str(error)))
        except BrokenShardError as error:
            skipped.append(Skipped(place, f"byte {error.offset}", error.reason))
        except OSError as error:
            skipped.append(Skipped(place, "byte 0", f"cannot be read ({error.strerror})"))
        if before == (len(rows), len(skipped)):
            skipped.append(Skipped(place, "byte 0", "holds no sample"))
    table = list(zip(*rows, strict=True)) or [()] * len(_COLUMNS)
    columns = {name: np.array(table[i], dtype=kind_) for i, (name, kind_) in enumerate(_COLUMNS.items())}
    return SplitIndex(folder=folder, kind=kind, shards=tuple(p.name for p in shards), skipped=tuple(skipped), **columns)


def _size(file: BinaryIO, group: MemberGroup, kind: Kind) -> tuple[int, int]:
    if duplicates := group.duplicates():
        raise SampleError(f"member {duplicates[0]} appears twice")
    extensions = {member.extension: member for member in group.members}
    if "json" not in extensions:
        raise SampleError("no json member")
    payload_extension(extensions, kind)
    file.seek(extensions["json"].offset)
    data = parse_metadata(file.read(extensions["json"].size))
    return data["width"], data["height"]


def _serialised(index: SplitIndex, stamp: str) -> bytes:
    columns = {name: getattr(index, name) for name in _COLUMNS}
    return save(columns, metadata={"stamp": stamp, "skipped": json.dumps(index.skipped)})


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
    except (SafetensorError, OSError):
        return None
    shards = tuple(shard[0] for shard in json.loads(stamp)[2])
    skipped = tuple(Skipped(*entry) for entry in json.loads(metadata["skipped"]))
    return SplitIndex(folder=folder, kind=kind, shards=shards, skipped=skipped, **columns)
