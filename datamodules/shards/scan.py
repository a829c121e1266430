"""Scans the tar headers of a shard for samples, up to the first unreadable byte."""

import re
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

_BLOCK = tarfile.BLOCKSIZE
MAX_LENGTH = 1 << 30  # maximum size of a sample in bytes; limited because samples are read whole
# As in WebDataset, the key ends at the first dot of the file name.
_NAME = re.compile(r"((?:.*/)?[^./]+)\.([^/]+)")


class Member(NamedTuple):
    """The extension of a member, and the position and size of its content in the shard in bytes."""

    extension: str
    offset: int
    size: int


@dataclass
class MemberGroup:
    """The adjacent members of one sample, which occupy the bytes [offset, offset + length) of the shard."""

    key: str
    offset: int
    length: int
    members: list[Member]

    def problem(self) -> str | None:
        """Return the reason why the sample cannot be read, or None if it can be read."""
        names = [member.extension for member in self.members]
        if len(set(names)) < len(names):
            return f"has more than one .{min(name for name in names if names.count(name) > 1)} member"
        return f"larger than {MAX_LENGTH >> 20} MiB" if self.length > MAX_LENGTH else None


class BrokenShardError(Exception):
    """A shard is unreadable from byte ``offset`` onward."""

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(reason)
        self.offset = offset
        self.reason = reason


def is_plain(info: tarfile.TarInfo) -> bool:
    """Return whether a member is a regular file, rather than, for example, a link or a sparse file."""
    return info.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not info.issparse()


def split_member_name(name: str) -> tuple[str, str] | None:
    """Split a member's name into key and extension, or return None for a name that WebDataset ignores."""
    match = _NAME.fullmatch(name)
    return (match[1], match[2].lower()) if match else None


def open_shard(path: Path) -> BinaryIO:
    """Open a shard for reading.

    Raises:
        BrokenShardError: The path leads to a folder, a pipe, or a device. Reading from these might never end.
        OSError: The file does not exist or cannot be read.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise BrokenShardError(0, "not a regular file")
    return path.open("rb")


def scan_shard(file: BinaryIO) -> Iterator[MemberGroup]:
    """Yield the samples in order. If the last sample is truncated, it contains only the complete members.

    Raises:
        BrokenShardError: The shard is damaged or truncated. The error is raised after the last readable sample.
    """
    group: MemberGroup | None = None
    try:
        for info in _scan_headers(file):
            key_and_extension = split_member_name(info.name)
            if key_and_extension is None or not is_plain(info):
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
            if info.size < 0 or tar.offset <= position:
                raise BrokenShardError(position, "damaged: a header with a negative size")
            if info.offset_data + info.size > end:
                raise BrokenShardError(position, f"truncated inside {info.name}")
            yield info
            tar.members.clear()  # type: ignore[attr-defined]  # not in typeshed; keeps memory constant
            position = tar.offset
        position = tar.offset
    except (BrokenShardError, OSError):
        raise
    except Exception as error:  # tarfile raises many types of exceptions for damaged headers
        raise BrokenShardError(position, f"cannot be read as tar ({str(error) or type(error).__name__})") from error
    _check_end(file, position)


def _check_end(file: BinaryIO, position: int) -> None:
    """Check that only zeros follow, because ``tarfile`` stops at any unreadable header or block of zeros."""
    file.seek(position)
    block = file.read(_BLOCK)
    if len(block) < _BLOCK:
        raise BrokenShardError(position, "truncated: the end-of-archive block is missing")
    if any(block):
        raise BrokenShardError(position, "damaged: not a tar header")
    while chunk := file.read(1 << 20):
        if chunk.count(0) < len(chunk):
            raise BrokenShardError(position, "damaged: data after the end-of-archive block")


def _round_up(position: int) -> int:
    return -(-position // _BLOCK) * _BLOCK
