"""Finds the samples of a shard from its tar headers, up to the first byte that is not as it should be."""

import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

_BLOCK = tarfile.BLOCKSIZE
# WebDataset's rule: the key ends at the file name's first dot.
_NAME = re.compile(r"((?:.*/)?[^./]+)\.([^/]+)")


class Member(NamedTuple):
    """Where the content of a member lies in the shard, in bytes."""

    extension: str
    offset: int
    size: int


@dataclass
class MemberGroup:
    """The adjacent members of one key: bytes [offset, offset + length) of the shard."""

    key: str
    offset: int
    length: int
    members: list[Member]

    def duplicates(self) -> list[str]:
        names = [member.extension for member in self.members]
        return sorted({name for name in names if names.count(name) > 1})


class BrokenShardError(Exception):
    """The shard cannot be read from byte ``offset`` on."""

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(reason)
        self.offset = offset
        self.reason = reason


def split_member_name(name: str) -> tuple[str, str] | None:
    """(key, extension) of a member's name; None for names that WebDataset ignores."""
    match = _NAME.fullmatch(name)
    return (match[1], match[2].lower()) if match else None


def scan_shard(file: BinaryIO) -> Iterator[MemberGroup]:
    """Yields the samples in order; a last one that is cut off comes with the members that are whole.

    Raises:
        BrokenShardError: after the last readable sample, if the shard does not end as a tar ends.
    """
    group: MemberGroup | None = None
    try:
        for info in _members(file):
            named = split_member_name(info.name)
            if named is None or not info.isfile():
                continue
            key, extension = named
            if group is not None and group.key != key:
                yield group
                group = None
            if group is None:
                group = MemberGroup(key, info.offset, 0, [])
            group.members.append(Member(extension, info.offset_data, info.size))
            group.length = _padded(info.offset_data + info.size) - group.offset
    except BrokenShardError:
        if group is not None:
            yield group
        raise
    if group is not None:
        yield group


def _members(file: BinaryIO) -> Iterator[tarfile.TarInfo]:
    end = file.seek(0, 2)
    file.seek(0)
    if end == 0:
        raise BrokenShardError(0, "the file is empty")
    position = 0
    try:
        tar = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115 (the file belongs to the caller)
        while (info := tar.next()) is not None:
            if info.offset_data + info.size > end:
                raise BrokenShardError(info.offset, f"truncated inside {info.name}")
            yield info
            tar.members.clear()  # type: ignore[attr-defined]  # else it keeps every header
            position = tar.offset
        position = tar.offset
    except tarfile.TarError as error:
        raise BrokenShardError(position, f"not readable as tar ({error})") from error
    _check_end(file, position)


def _check_end(file: BinaryIO, position: int) -> None:
    """``tarfile`` takes any unreadable header for the end; the real end is a block of zeros."""
    file.seek(position)
    block = file.read(_BLOCK)
    if len(block) < _BLOCK:
        raise BrokenShardError(position, "truncated: the end mark is missing")
    if any(block):
        raise BrokenShardError(position, "damaged: not a tar header")


def _padded(position: int) -> int:
    return -(-position // _BLOCK) * _BLOCK
