"""Reads single samples out of shards by row."""

import io
import os
import tarfile
from collections import OrderedDict
from typing import NamedTuple

from datamodules.shards.index import SplitIndex
from datamodules.shards.scan import split_member_name
from datamodules.shards.schema import Sample, SampleError, parse_sample

_OPEN_FILES = 64


class RawSample(NamedTuple):
    """A sample's key in the shard and its members {extension: content}."""

    key: str
    members: dict[str, bytes]


class ShardReader:
    """Random access to a split. Files are opened when first needed, in each process for itself."""

    def __init__(self, index: SplitIndex) -> None:
        self.index = index
        self._files: OrderedDict[int, int] = OrderedDict()

    def sample(self, row: int) -> Sample:
        """The sample of a row, its payload still encoded.

        Raises:
            SampleError: the shard has gone or has changed, or the sample breaks the schema.
        """
        return parse_sample(self.members(row).members, self.index.kind)

    def members(self, row: int) -> RawSample:
        """What is stored for a row, not interpreted.

        Raises:
            SampleError: the shard has gone or has changed.
        """
        content = self._bytes(row)
        try:
            return _plain_members(content) or _any_members(content)
        except tarfile.TarError as error:
            raise SampleError(f"the shard has changed since it was indexed ({error})") from error

    def _bytes(self, row: int) -> bytes:
        length, offset = int(self.index.length[row]), int(self.index.offset[row])
        try:
            content = os.pread(self._file(int(self.index.shard[row])), length, offset)
        except OSError as error:
            raise SampleError(f"cannot be read ({error.strerror})") from error
        if len(content) < length:
            raise SampleError("the shard has changed since it was indexed (it ends inside the sample)")
        return content

    def _file(self, shard: int) -> int:
        if shard in self._files:
            self._files.move_to_end(shard)
            return self._files[shard]
        while len(self._files) >= _OPEN_FILES:
            os.close(self._files.popitem(last=False)[1])
        self._files[shard] = os.open(self.index.folder / self.index.shards[shard], os.O_RDONLY)
        return self._files[shard]

    def close(self) -> None:
        while self._files:
            os.close(self._files.popitem()[1])

    def __del__(self) -> None:
        self.close()

    def __getstate__(self) -> dict[str, object]:
        return {"index": self.index, "_files": OrderedDict()}


def _plain_members(content: bytes) -> RawSample | None:
    """Members whose headers are one block each, as all that our writer writes; None if there are others.

    A third of the time of ``_any_members``, which would be a fifth of that of decoding a small picture.
    """
    key, members, offset = "", {}, 0
    while offset < len(content):
        info = tarfile.TarInfo.frombuf(content[offset : offset + tarfile.BLOCKSIZE], "utf-8", "surrogateescape")
        named = split_member_name(info.name)
        if not info.isreg() or named is None:
            return None
        offset += tarfile.BLOCKSIZE
        key, extension = named
        members[extension] = content[offset : offset + info.size]
        offset += -(-info.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    return RawSample(key, members)


def _any_members(content: bytes) -> RawSample:
    key, members = "", {}
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as tar:
        for info in tar:
            named = split_member_name(info.name)
            file = tar.extractfile(info)
            if named is not None and file is not None:
                key, extension = named
                members[extension] = file.read()
    return RawSample(key, members)
