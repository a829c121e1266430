"""Checks at the start of a run that the node's cache can hold all shards that are needed at the same time."""

import resource

from datamodules.remote.address import KEY
from datamodules.remote.settings import LIMIT_VARIABLE, format_size
from datamodules.remote.shards import RemoteShards
from pocketdit.errors import ConfigError

_OTHER_FILES = 256  # open files that a process needs besides its shards


def require_room_for_plan(shards: RemoteShards, window: int) -> None:
    """Check that the cache can hold two windows of shards, and that a process can keep them open.

    A window's samples are shuffled, so all of its shards are in use until the next window begins. In a smaller cache,
    shards would be downloaded again for almost every sample.

    Raises:
        ConfigError: The cache is too small, or the process may not open enough files.
    """
    sizes = sorted((file.size for file in shards.files), reverse=True)
    needed, limit = sum(sizes[: 2 * window]), shards.cache.limit
    if needed > limit:
        fitting = next((n for n in range(window - 1, 0, -1) if sum(sizes[: 2 * n]) <= limit), 0)
        smaller = f", or data.init_args.window to at most {fitting}" if fitting else ""
        raise ConfigError(
            f"{LIMIT_VARIABLE}: the cache may use {format_size(limit)}, but two windows of {window} shards, which "
            f"training needs at once, take {format_size(needed)}; set it to at least that size{smaller}"
        )
    files = 2 * min(window, len(sizes)) + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and files > hard:
        raise ConfigError(
            f"data.init_args.window: a process may open {hard} files, but two windows of {window} shards need {files}; "
            f"set it to at most {max(1, (hard - _OTHER_FILES) // 2)}, or raise the limit of open files (ulimit -n)"
        )
    if soft != resource.RLIM_INFINITY and files > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))


def require_room_for_workers(shards: RemoteShards, processes: int) -> None:
    """Check that the cache can hold one shard for each process of the node that reads the split.

    Raises:
        ConfigError: The cache is too small.
    """
    largest = max((file.size for file in shards.files), default=0)
    if processes * largest > shards.cache.limit:
        raise ConfigError(
            f"{LIMIT_VARIABLE}: the cache may use {format_size(shards.cache.limit)}, but {processes} processes of "
            f"this node each read a shard of up to {format_size(largest)} from {KEY}; set it to at least "
            f"{format_size(processes * largest)}, or lower data.init_args.workers"
        )
