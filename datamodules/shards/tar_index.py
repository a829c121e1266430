"""Data sets that consist only of indexes, which refer to tars that another program wrote.

    DATASET/dataset.json                   "tars": location of the tars, and which members contain images and captions
    DATASET/train/index.safetensors        for each sample: its tar, its position, and the size of the upright image
    DATASET/validation/index.safetensors

The tars remain in another folder, in remote storage, or in the folder of the data set itself. Captions are read from
the tars. An index records the size and the version of each tar, so that changes are detected.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple

from datamodules.captions.fields import parse_field
from datamodules.captions.members import MemberRules
from datamodules.shards.index import INDEX_FILE, SplitIndex, serialize_index
from datamodules.shards.index_columns import fits, read_columns
from datamodules.shards.scan import BrokenShardError, MemberGroup, open_shard, scan_shard
from datamodules.shards.schema import INFO_FILE, is_complete, read_info
from datamodules.shards.sources import path_text
from pocketdit.errors import ConfigError, RunError, UserError
from pocketdit.files import write_atomically

IN_PLACE = "."
_AGAIN = "index the tars again with: lightning data index"


@dataclass(frozen=True)
class TarSource:
    """The tars to which the indexes of a data set refer.

    Attributes:
        address: Absolute path or remote address of the tars' folder, or ``IN_PLACE`` for the data set's own folder.
        rules: Rules that determine which members contain images and captions.
    """

    address: str
    rules: MemberRules

    def describe(self) -> dict[str, Any]:
        """Return a description for dataset.json."""
        return {
            "address": self.address,
            "image": self.rules.image,
            "captions": list(map(str, self.rules.captions)),
            "captions_per_line": self.rules.captions_per_line,
        }


def parse_tar_source(dataset: str, description: Mapping[str, Any]) -> TarSource:
    """Parse the description of the tars in dataset.json.

    Args:
        dataset: Folder or address of the data set.
        description: The description.

    Raises:
        UserError: The description is not valid.
    """
    try:
        address, image = description["address"], description["image"]
        captions = tuple(parse_field(text, '"captions"') for text in description["captions"])
        if not isinstance(address, str) or not isinstance(image, str | None):
            raise TypeError('"address" and "image" must be strings')
        return TarSource(address, MemberRules(image, captions, bool(description["captions_per_line"])))
    except (KeyError, TypeError, AttributeError, ConfigError) as error:
        raise UserError(f'{dataset}/{INFO_FILE}: "tars" is not valid ({error}); {_AGAIN}') from error


class TarRecord(NamedTuple):
    """The properties by which an index identifies a tar.

    Attributes:
        name: Path of the tar, relative to the folder of the tars.
        size: Size of the tar in bytes.
        version: Modification time in nanoseconds or, in remote storage, the ETag.
        headers: Hash of the names, positions and sizes of the tar's members.
    """

    name: str
    size: int
    version: str
    headers: str


def read_tar_index(folder: Path, rules: MemberRules) -> tuple[SplitIndex, list[TarRecord]]:
    """Read the index of a split. The file is not trusted.

    Args:
        folder: The folder that contains the index.
        rules: Rules that determine which members contain images and captions.

    Raises:
        UserError: The file is missing or damaged, or was written by another version.
    """
    path = folder / INDEX_FILE
    content = read_columns(path, "image")
    try:
        if content is None:
            raise ValueError("missing, damaged, or written by another version")
        description, columns = content
        records = [TarRecord(str(n), int(size), str(v), str(h)) for n, size, v, h in description["shards"]]
        names = tuple(record.name for record in records)
        if len(set(names)) < len(names) or not all(map(_is_inside, names)):
            raise ValueError("damaged")
        if not fits(columns, [record.size for record in records]):
            raise ValueError("damaged")
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: {error}; {_AGAIN}") from error
    return SplitIndex(folder=folder, kind="image", shards=names, rules=rules, **columns), records


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(name) and "\0" not in name and not path.is_absolute() and ".." not in path.parts


def require_unchanged(root: Path, index: SplitIndex, records: Sequence[TarRecord]) -> None:
    """Check that local tars have not changed since they were indexed.

    If the modification time of a tar differs, for example because the tar was copied, its members must be the same as
    before. The new time is then written to the index, if possible.

    Raises:
        RunError: A tar is missing or has changed.
    """
    current = [_current_record(root, record) for record in records]
    if current != list(records):
        try:
            write_atomically(index.folder / INDEX_FILE, serialize_index(index, current))
        except OSError:  # a read-only folder; the tars are checked again next time
            return


def _current_record(root: Path, record: TarRecord) -> TarRecord:
    path = root / record.name
    try:
        status = path.stat()
        if status.st_size != record.size:
            raise changed(path, f"it has {status.st_size} bytes instead of {record.size}")
        if (version := str(status.st_mtime_ns)) == record.version:
            return record
        with open_shard(path) as file:
            headers = hash_headers(file)
    except (OSError, UnicodeEncodeError, BrokenShardError) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "reason", error)
        raise RunError(f"{path_text(path)}: cannot be read ({reason}); the data set refers to it") from error
    if headers != record.headers:
        raise changed(path, "its members differ")
    return record._replace(version=version)


def changed(tar: Path | str, how: str) -> RunError:
    """Return the error for a tar that has changed."""
    name = path_text(tar) if isinstance(tar, Path) else tar
    return RunError(f"{name}: has changed since it was indexed ({how}); {_AGAIN}")


class HeaderHash:
    """A hash of the names, positions and sizes of the members of a tar's samples."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, group: MemberGroup) -> None:
        """Add the members of a sample."""
        self._digest.update(repr((group.key, group.offset, group.length, list(map(tuple, group.members)))).encode())

    def __str__(self) -> str:
        return self._digest.hexdigest()[:32]


def hash_headers(tar: BinaryIO) -> str:
    """Return the hash of a tar's headers, up to the first unreadable byte."""
    digest = HeaderHash()
    try:
        for group in scan_shard(tar):
            digest.add(group)
    except BrokenShardError:
        pass
    return str(digest)


def require_own_shards(out: Path) -> None:
    """Check that a folder does not contain an index of tars, because it may also contain the tars themselves.

    Raises:
        UserError: The folder contains an index of tars.
    """
    if is_complete(out) and read_info(out).tars is not None:
        raise UserError(
            f"{out}: contains an index of tars, which only the command lightning data index may replace; choose "
            "another folder"
        )
