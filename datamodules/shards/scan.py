"""Scans the tar headers of a shard for samples, up to the first unreadable byte."""

import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

_BLOCK = tarfile.BLOCKSIZE
# As in WebDataset, the key ends at the first dot of the file name.
_NAME = re.compile(r"((?:.*/)?[^./]+)\.([^/]+)")


class Member(NamedTuple):
    """The position of a member's content in its shard, in bytes."""

    extension: str
    offset: int
    size: int


@dataclass
class MemberGroup:
    """The adjacent members of one sample: bytes [offset, offset + length) of the shard."""

    key: str
    offset: int
    length: int
    members: list[Member]

    def duplicates(self) -> list[str]:
        """Return the extensions that occur more than once."""
        names = [member.extension for member in self.members]
        return sorted({name for name in names if names.count(name) > 1})


class BrokenShardError(Exception):
    """A shard is unreadable from byte ``offset`` onward."""

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(reason)
        self.offset = offset
        self.reason = reason


def split_member_name(name: str) -> tuple[str, str] | None:
    """Split a member's name into key and extension, or return None for a name that WebDataset ignores."""
    match = _NAME.fullmatch(name)
    return (match[1], match[2].lower()) if match else None


def scan_shard(file: BinaryIO) -> Iterator[MemberGroup]:
    """Yield the samples in order. A truncated last sample has only its complete members.

    Raises:
        BrokenShardError: The shard is damaged or truncated. The error is raised after the last readable sample.
    """
    group: MemberGroup | None = None
    try:
        for info in _scan_headers(file):
            key_and_extension = split_member_name(info.name)
            if key_and_extension is None or not info.isfile():
                continue
            key, extension = key_and_extension
            if group is not None and group.key != key:
                yield group
                group = None
            if group is None:
                group = MemberGroup(key, info.offset, 0, [])
            group.members.append(Member(extension, info.offset_data, info.size))
            group.length = _round_up(info.offset_data + info.size) - group.offset
    except BrokenShardError:
        if group is not None:
            yield group
        raise
    if group is not None:
        yield group


def _scan_headers(file: BinaryIO) -> Iterator[tarfile.TarInfo]:
    end = file.seek(0, 2)
    file.seek(0)
    if end == 0:
        raise BrokenShardError(0, "the file is empty")
    position = 0
    try:
        tar = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115 (the caller closes the file)
        while (info := tar.next()) is not None:
            if info.offset_data + info.size > end:
                raise BrokenShardError(info.offset, f"truncated inside {info.name}")
            yield info
            tar.members.clear()  # type: ignore[attr-defined]  # not in typeshed; otherwise, all headers stay in memory
            position = tar.offset
        position = tar.offset
    except tarfile.TarError as error:
        raise BrokenShardError(position, f"not readable as tar ({error})") from error
    _check_end(file, position)


def _check_end(file: BinaryIO, position: int) -> None:
    """Check for the block of zeros at the end, because ``tarfile`` treats any unreadable header as the end."""
    file.seek(position)
    block = file.read(_BLOCK)
    if len(block) < _BLOCK:
        raise BrokenShardError(position, "truncated: the end-of-archive block is missing")
    if any(block):
        raise BrokenShardError(position, "damaged: not a tar header")


def _round_up(position: int) -> int:
    return -(-position // _BLOCK) * _BLOCK
