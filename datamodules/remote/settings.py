"""The folder and the size limit of a node's cache, set by environment variables because they depend on the machine."""

import os
import re
import shutil
from pathlib import Path

from pocketdit.errors import ConfigError

FOLDER_VARIABLE = "POCKETDIT_SHARD_CACHE"
LIMIT_VARIABLE = "POCKETDIT_SHARD_CACHE_LIMIT"
_SHARE = 0.75  # default limit, as a fraction of the free disk space
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)b?\s*", re.IGNORECASE)


def cache_folder() -> Path:
    """Return the folder of the cache: POCKETDIT_SHARD_CACHE, or pocketdit/ in the user's cache folder."""
    if folder := os.environ.get(FOLDER_VARIABLE):
        return Path(folder).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().absolute() / "pocketdit"


def cache_limit(folder: Path, occupied: int) -> int:
    """Return the limit of the cache in bytes: POCKETDIT_SHARD_CACHE_LIMIT, or three quarters of the free disk space.

    Args:
        folder: An existing folder on the disk of the cache.
        occupied: Bytes that the cache already occupies. They count as free, so that all processes of a node compute the
            same limit.

    Raises:
        ConfigError: The variable is not a size.
    """
    if text := os.environ.get(LIMIT_VARIABLE):
        match = _SIZE.fullmatch(text)
        if match is None:
            raise ConfigError(f"{LIMIT_VARIABLE}: {text!r} is not a size, such as 200GB or 1.5TB")
        return int(float(match[1]) * _UNITS[match[2].lower()])
    return int(_SHARE * (shutil.disk_usage(folder).free + occupied))


def format_size(size: int) -> str:
    """Format a number of bytes, as in "8.6 GB". The number is rounded up, so that the result can be used as a limit."""
    for unit, factor in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            tenths = -(-10 * size // factor)
            return f"{tenths // 10}.{tenths % 10} {unit}"
    return f"{size} bytes"
