"""Tars in remote storage that another program wrote and to which the index of a data set refers."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from datamodules.remote.cache import ShardCache
from datamodules.remote.settings import LIMIT_VARIABLE, format_size
from datamodules.remote.shards import RemoteShards
from datamodules.remote.storage import RemoteFile, Storage
from datamodules.shards.tar_index import TarRecord, changed
from pocketdit.errors import ConfigError, RunError

_THREADS = 16  # concurrent requests for the versions of tars


def open_remote_tars(
    storage: Storage, cache: ShardCache, records: Sequence[TarRecord], *, has_versions: bool
) -> RemoteShards:
    """Check that tars in storage have not changed since they were indexed, and return them.

    Args:
        storage: The storage folder that contains the tars.
        cache: The node's cache.
        records: The index's records of the tars.
        has_versions: Whether the versions in the index are those of this storage, rather than those of local files.

    Raises:
        ConfigError: The cache is too small for a tar.
        RunError: A tar is missing or has changed.
    """
    files = _files(storage, [record.name for record in records])
    for record, file in zip(records, files, strict=True):
        place = f"{storage.address}/{record.name}"
        if file is None:
            raise RunError(f"{place}: does not exist, although the data set refers to it")
        if file.size != record.size:
            raise changed(place, f"it has {file.size} bytes instead of {record.size}")
        if has_versions and file.tag != record.version:
            raise changed(place, "its version in storage differs")
    tars = [file for file in files if file is not None]
    require_room_for_largest(cache, tars, storage.address)
    return RemoteShards(storage, cache, tars)


def _files(storage: Storage, names: Sequence[str]) -> list[RemoteFile | None]:
    if storage.can_list:
        listed = {file.name: file for file in storage.list_files(".tar")}
        return [listed.get(name) for name in names]
    with ThreadPoolExecutor(_THREADS) as threads:
        return list(threads.map(storage.find, names))


def require_room_for_largest(cache: ShardCache, files: Iterable[RemoteFile], address: str) -> None:
    """Check that each file fits into the cache.

    Raises:
        ConfigError: The cache is too small for a file.
    """
    largest = max((file.size for file in files), default=0)
    if largest > cache.limit:
        raise ConfigError(
            f"{LIMIT_VARIABLE}: the cache may use {format_size(cache.limit)}, but a shard of {address} takes "
            f"{format_size(largest)}; set it to a larger size"
        )
