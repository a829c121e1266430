"""Reads, edits, and forges tar files."""

import io
import json
import tarfile
from pathlib import Path

Members = list[tuple[str, bytes]]


def read_members(shard: Path) -> Members:
    with tarfile.open(shard) as tar:
        return [(info.name, file.read()) for info in tar if (file := tar.extractfile(info)) is not None]


def write_members(shard: Path, members: Members) -> None:
    with tarfile.open(shard, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def edit_member(shard: Path, key: int, extension: str, content: bytes | None) -> None:
    """Replace a member, or remove it if the content is None."""
    name = f"{key:08d}.{extension}"
    members = [(n, content if n == name else c) for n, c in read_members(shard) if n != name or content is not None]
    write_members(shard, [(n, c) for n, c in members if c is not None])


def edit_json(shard: Path, key: int, **changes: object) -> None:
    data = json.loads(dict(read_members(shard))[f"{key:08d}.json"])
    edit_member(shard, key, "json", json.dumps({**data, **changes}).encode())


def forge_header(name: bytes, size: int, kind: bytes = tarfile.REGTYPE, size_field: bytes | None = None) -> bytes:
    """Return a tar header with a valid checksum and any size, including negative ones.

    Args:
        name: The member's name.
        size: The recorded size, which is stored in base 256 if it is negative or large.
        kind: The member's type.
        size_field: Content of the size field, instead of ``size``.
    """
    header = bytearray(tarfile.BLOCKSIZE)
    header[: min(len(name), 100)] = name[:100]
    header[100:108] = b"0000644\0"
    header[124:136] = size_field if size_field is not None else _number(size)
    header[136:148] = b"00000000000\0"
    header[156:157] = kind
    header[257:265] = b"ustar\x0000"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def pad(content: bytes) -> bytes:
    return content + bytes(-len(content) % tarfile.BLOCKSIZE)


def insert_bytes(shard: Path, offset: int, content: bytes) -> None:
    data = shard.read_bytes()
    shard.write_bytes(data[:offset] + content + data[offset:])


def header_offset(shard: Path, name: str) -> int:
    with tarfile.open(shard) as tar:
        return tar.getmember(name).offset


def content_offset(shard: Path, name: str) -> int:
    with tarfile.open(shard) as tar:
        return tar.getmember(name).offset_data


def _number(value: int) -> bytes:
    if 0 <= value < 8**11:
        return b"%011o\0" % value
    return bytes([0xFF if value < 0 else 0x80]) + (value % 256**11).to_bytes(11, "big")
