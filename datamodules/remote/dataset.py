"""Opens a data set in remote storage without reading its shards."""

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock
from tqdm.auto import tqdm

from datamodules.remote.address import KEY
from datamodules.remote.cache import node_cache
from datamodules.remote.settings import cache_folder, format_size
from datamodules.remote.shards import RemoteShards
from datamodules.remote.storage import RemoteFile, Storage
from datamodules.remote.tars import open_remote_tars, require_room_for_largest
from datamodules.shards.index import (
    INDEX_FILE,
    ShardRecord,
    ShardScan,
    SplitIndex,
    join_scans,
    read_index,
    scan_rows,
    serialize_index,
)
from datamodules.shards.schema import INFO_FILE, DatasetInfo, Kind, read_info
from datamodules.shards.tar_index import IN_PLACE, parse_tar_source, read_tar_index
from pocketdit.errors import ConfigError, RunError, UserError
from pocketdit.files import write_atomically

_LOG = logging.getLogger(__name__)
_MAX_INFO = 64 << 20  # maximum size of dataset.json in bytes
_THREADS = 16  # concurrent requests for the versions of shards


class RemoteDataset:
    """A data set in remote storage.

    Its dataset.json and indexes are copied to the cache's folder, where all processes of the node share them.

    Args:
        address: Address of the data set, such as s3://BUCKET/FOLDER.

    Raises:
        ConfigError: The address or an environment variable of the cache is invalid, or a package is missing.
        RunError: The cache's folder cannot be used.
    """

    def __init__(self, address: str) -> None:
        self.storage = Storage(address)
        self.cache = node_cache()
        key = hashlib.sha256(self.storage.address.encode()).hexdigest()[:16]
        self._folder = cache_folder() / "data_sets" / key

    def read_info(self) -> DatasetInfo:
        """Read the data set's dataset.json.

        Raises:
            ConfigError: The address does not contain a data set.
            UserError: dataset.json is invalid.
            RunError: The storage cannot be reached.
        """
        file = self.storage.find(INFO_FILE)
        if file is None:
            raise ConfigError(
                f"{KEY}: {self.storage.address} does not contain a data set (no {INFO_FILE}); check the address"
            )
        if file.size > _MAX_INFO:
            raise ConfigError(f"{KEY}: {self.storage.address}/{INFO_FILE} is too large ({format_size(file.size)})")
        with self._locked():
            self._copy(file)
            return read_info(self._folder)

    def load_index(self, split: str, info: DatasetInfo) -> SplitIndex:
        """Load a split's index.

        Args:
            split: "train" or "validation".
            info: The contents of dataset.json.

        Raises:
            UserError: The data set is an index of tars in another location, or the index of tars is damaged.
            ConfigError: The web server has no index, or the cache is too small for a shard.
            RunError: The storage cannot be reached, or an indexed tar is missing or has changed.
        """
        index = self._load_shards(split, info.kind) if info.tars is None else self._load_tars(split, info.tars)
        return replace(index, address=self.storage.address)

    def _load_tars(self, split: str, description: dict[str, Any]) -> SplitIndex:
        """Load the index of tars that are in the folder of the data set.

        Tars elsewhere are refused, because a downloaded index must not decide which other servers and folders are read.
        """
        tars = parse_tar_source(self.storage.address, description)
        if tars.address != IN_PLACE:
            raise UserError(
                f"{self.storage.address}: is an index of tars in {tars.address}; copy its folder to this machine, and "
                "train on the copy"
            )
        file = self.storage.find(f"{split}/{INDEX_FILE}")
        with self._locked():
            if file is not None:
                self._copy(file)
            index, records = read_tar_index(self._folder / split, tars.rules)
        return replace(index, remote=open_remote_tars(self.storage, self.cache, records, has_versions=False))

    def _load_shards(self, split: str, kind: Kind) -> SplitIndex:
        """Load the index of shards in the format of ``schema``.

        The index next to the shards is used if it lists exactly the shards in storage. Otherwise, the shards are
        downloaded to the cache, and an index is built from them and kept in the cache's folder. Web servers cannot list
        files, so a data set on a web server must include the index.

        Raises:
            ConfigError: The web server has no index, or the cache is too small for a shard.
            RunError: The storage cannot be reached.
        """
        listed = self.storage.list_shards(split) if self.storage.can_list else None
        if listed is not None:
            require_room_for_largest(self.cache, listed, self.storage.address)
        with self._locked():
            stored = self._stored_index(split, kind, listed)
            if stored is None:
                if listed is None:
                    raise ConfigError(
                        f"{KEY}: {self.storage.address}/{split}/{INDEX_FILE} is missing or damaged, and web servers "
                        "cannot list shards; build the data set again, or upload it with its indexes"
                    )
                stored = self._build_index(split, kind, listed)
        index, files = stored
        require_room_for_largest(self.cache, files, self.storage.address)
        return replace(index, remote=RemoteShards(self.storage, self.cache, files))

    def _stored_index(
        self, split: str, kind: Kind, listed: Sequence[RemoteFile] | None
    ) -> tuple[SplitIndex, list[RemoteFile]] | None:
        """Return the index in storage, or the index built earlier in the cache's folder, if it matches the shards."""
        name = f"{split}/{INDEX_FILE}"
        file = self.storage.find(name)
        if file is not None:
            self._copy(file)
            if (opened := read_index(self._folder / name, kind)) is not None:
                index, records = opened
                if listed is None:
                    return index, self._ask_for_versions(split, records)
                if _names_and_sizes(split, records) == [file[:2] for file in listed]:
                    return index, [
                        file._replace(sha256=record.sha256) for file, record in zip(listed, records, strict=True)
                    ]
            _LOG.warning("%s/%s does not match the shards and is not used", self.storage.address, name)
        built = self._built_path(split, listed or [])
        opened = read_index(built, kind)
        if opened is None or listed is None:
            return None
        return replace(opened[0], folder=self._folder / split), list(listed)

    def _build_index(self, split: str, kind: Kind, listed: Sequence[RemoteFile]) -> tuple[SplitIndex, list[RemoteFile]]:
        shards = RemoteShards(self.storage, self.cache, listed)
        scans: list[ShardScan] = []
        description = f"{self.storage.address}/{split}: building the index"
        progress = tqdm(range(len(listed)), description, unit="shard", disable=None)
        for number in progress:
            shards.expect([number], range(number + 1, min(number + 4, len(listed))))
            with shards.use(number) as descriptor:
                scans.append(scan_rows(Path(f"/dev/fd/{descriptor}"), listed[number].name, kind))
        shards.close()
        records = [ShardRecord(Path(file.name).name, file.size) for file in listed]
        index = join_scans(self._folder / split, [record.name for record in records], scans, kind)
        write_atomically(self._built_path(split, listed), serialize_index(index, records))
        return index, list(listed)

    def _built_path(self, split: str, listed: Sequence[RemoteFile]) -> Path:
        version = hashlib.sha256(json.dumps(listed).encode()).hexdigest()[:16]
        return self._folder / split / f"built-{version}.safetensors"

    def _ask_for_versions(self, split: str, records: Sequence[ShardRecord]) -> list[RemoteFile]:
        """Return the shards on a web server.

        The hashes in the index serve as versions. The server is asked for the version of a shard without a hash.
        """

        def ask(record: ShardRecord) -> RemoteFile:
            name = f"{split}/{record.name}"
            if record.sha256:
                return RemoteFile(name, record.size, record.sha256, record.sha256)
            file = self.storage.find(name)
            if file is None:
                raise RunError(f"{self.storage.address}/{name}: does not exist, but the index of the split lists it")
            if file.size != record.size:
                raise RunError(
                    f"{self.storage.address}/{name}: has {file.size} bytes, but the index of the split records "
                    f"{record.size}; upload the data set again"
                )
            return file

        with ThreadPoolExecutor(_THREADS) as threads:
            return list(threads.map(ask, records))

    def _copy(self, file: RemoteFile) -> None:
        """Copy a small file to the cache's folder, unless an existing copy has the same version."""
        path = self._folder / file.name
        version = path.with_name(f"{path.name}.version")
        text = json.dumps([file.size, file.tag])
        if file.tag and path.is_file() and version.is_file() and version.read_text() == text:
            return
        version.unlink(missing_ok=True)
        write_atomically(path, _downloaded(self.storage, file))
        write_atomically(version, text)

    def _locked(self) -> FileLock:
        self._folder.mkdir(parents=True, exist_ok=True)
        return FileLock(self._folder / ".opening")


def _downloaded(storage: Storage, file: RemoteFile) -> Callable[[Path], None]:
    return lambda path: storage.download(file, path)


def _names_and_sizes(split: str, records: Sequence[ShardRecord]) -> list[tuple[str, int]]:
    return [(f"{split}/{record.name}", record.size) for record in records]
