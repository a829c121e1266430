"""A bounded folder of whole shards, shared by all processes of a node.

Every process locks the shards that it reads (a shared ``flock`` on the shard's file), and only unlocked shards are
removed to make room. A process that downloads a shard holds an exclusive lock on the temporary file. Other processes
wait for this lock instead of repeating the download. The operating system releases the locks of a process when the
process ends, so a temporary file without a lock was left behind by a killed process. File names contain the size of
the shard, so a download counts with its full size as soon as it starts.
"""

import fcntl
import hashlib
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from datamodules.remote.settings import FOLDER_VARIABLE, cache_folder, cache_limit
from pocketdit.errors import RunError

_SHARD, _PARTIAL = ".tar", ".partial"
_POLL = 0.05  # seconds between checks for room


class Usage(NamedTuple):
    """Statistics of a cache since its creation.

    Attributes:
        peak: Maximum number of bytes that shards and downloads occupied at any time.
        downloads: Number of downloads.
        removed: Number of shards that were removed to make room.
    """

    peak: int = 0
    downloads: int = 0
    removed: int = 0


class ShardCache:
    """A folder of shards that occupies at most ``limit`` bytes.

    Args:
        folder: The folder. It must be on a local disk, because the cache depends on file locks.
        limit: Number of bytes that shards may occupy, including unfinished downloads.

    Raises:
        RunError: The folder cannot be used.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        try:
            with self._exclusive():
                self._occupied()  # removes the files that killed processes left behind
        except OSError as error:
            raise self._unusable(error) from error

    def hold(
        self,
        identity: tuple[str, ...],
        size: int,
        download: Callable[[Path], None],
        *,
        wait: bool,
        make_room: Callable[[], None] = lambda: None,
    ) -> int | None:
        """Return a file descriptor of a shard, which is downloaded if the cache does not contain it.

        The shard stays in the cache until the descriptor is closed.

        Args:
            identity: The address, file name, and version of the shard, which together identify the content.
            size: Size of the shard in bytes.
            download: Function that writes the shard to a path.
            wait: Whether to wait if another process is downloading the shard or if there is no room for it.
            make_room: Function that is called before waiting for room. It closes descriptors that this process can do
                without.

        Returns:
            The descriptor. None if ``wait`` is false and the shard is being downloaded or there is no room for it.

        Raises:
            RunError: The shard cannot be downloaded, written, or read.
        """
        key = hashlib.sha256(json.dumps([*identity, size]).encode()).hexdigest()[:32]
        shard = self.folder / f"{key}-{size}{_SHARD}"
        try:
            return self._hold(shard, size, download, wait, make_room)
        except OSError as error:
            raise self._unusable(error) from error

    def _hold(
        self, shard: Path, size: int, download: Callable[[Path], None], wait: bool, make_room: Callable[[], None]
    ) -> int | None:
        while True:
            if (descriptor := self._open(shard, size)) is not None:
                return descriptor
            state = self._reserve(shard, size)
            if isinstance(state, int):
                with suppress(FileNotFoundError):  # the folder was deleted; the next attempt creates it again
                    return self._finish(state, shard, download)
                continue
            if not wait:
                return None
            if state == "busy":
                self._await(shard.with_suffix(_PARTIAL))
            elif state == "full":
                parent = multiprocessing.parent_process()
                if parent is not None and not parent.is_alive():
                    raise RunError("the parent process, for which this process loads data, has ended")
                self._lock_file("waiting").touch()
                make_room()
                time.sleep(_POLL)

    def is_waited_for(self) -> bool:
        """Return whether a process has waited for room within the last second."""
        try:
            return time.time() - self._lock_file("waiting").stat().st_mtime < 1
        except FileNotFoundError:
            return False

    def usage(self) -> Usage:
        """Return the statistics of the cache since its creation."""
        try:
            return Usage(*json.loads(self._lock_file("lock").read_text() or "[]"))
        except (OSError, ValueError, TypeError):
            return Usage()

    def occupied(self) -> int:
        """Return the number of bytes that shards and downloads occupy."""
        return sum(_size_of(path) for path in self._files())

    def _open(self, shard: Path, size: int) -> int | None:
        while True:
            try:
                descriptor = os.open(shard, os.O_RDONLY)
            except FileNotFoundError:
                return None
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            if not _is_file_at(descriptor, shard):  # another process removed the shard before it was locked
                os.close(descriptor)
                continue
            if os.fstat(descriptor).st_size != size:  # the end of the file was lost, for example in a power failure
                shard.unlink(missing_ok=True)
                os.close(descriptor)
                return None
            os.utime(shard)
            return descriptor

    def _reserve(self, shard: Path, size: int) -> int | str:
        """Create and lock the temporary file of a shard.

        Returns:
            The descriptor of the temporary file, or "present" (the shard is in the cache), "busy" (another process is
            downloading the shard), or "full" (there is no room for the shard).
        """
        partial = shard.with_suffix(_PARTIAL)
        with self._exclusive():
            if shard.exists():
                return "present"
            occupied = self._occupied()
            if partial.exists():
                return "busy"
            occupied -= self._make_room(occupied + size - self.limit)
            if occupied + size > self.limit:
                return "full"
            usage = self.usage()
            self._write_usage(usage._replace(peak=max(usage.peak, occupied + size), downloads=usage.downloads + 1))
            descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            return descriptor

    def _make_room(self, needed: int) -> int:
        """Remove unlocked shards, starting with the least recently used, and return the number of freed bytes."""
        freed = removed = 0
        shards = [path for path in self._files() if path.suffix == _SHARD] if needed > 0 else []
        for path in sorted(shards, key=_last_use):
            if freed >= needed:
                break
            if _remove_if_unlocked(path):
                freed += _size_of(path)
                removed += 1
        if removed:
            usage = self.usage()
            self._write_usage(usage._replace(removed=usage.removed + removed))
        return freed

    def _finish(self, descriptor: int, shard: Path, download: Callable[[Path], None]) -> int:
        partial = shard.with_suffix(_PARTIAL)
        try:
            download(partial)
            os.fsync(descriptor)
            with self._exclusive():  # no process may remove the shard while its lock changes
                if not _is_file_at(descriptor, partial):  # the file was deleted and created again during the download
                    raise FileNotFoundError(partial)
                partial.rename(shard)
                fcntl.flock(descriptor, fcntl.LOCK_SH)
        except BaseException:
            if _is_file_at(descriptor, partial):
                partial.unlink(missing_ok=True)
            os.close(descriptor)
            raise
        return descriptor

    def _await(self, partial: Path) -> None:
        """Wait until another process has finished its download of a shard, or until that process has ended."""
        with suppress(FileNotFoundError), partial.open("rb") as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_SH)

    def _occupied(self) -> int:
        """Remove temporary files of killed processes, and return the occupied bytes. The caller must hold the lock."""
        total = 0
        for path in self._files():
            if path.suffix != _PARTIAL or not _remove_if_unlocked(path):
                total += _size_of(path)
        return total

    def _files(self) -> list[Path]:
        return [path for path in self.folder.iterdir() if path.suffix in (_SHARD, _PARTIAL)]

    def _unusable(self, error: OSError) -> RunError:
        return RunError(
            f"the cache {self.folder} cannot be used ({error.strerror or error}); free disk space, change the "
            f"folder's permissions, or set {FOLDER_VARIABLE} to another folder"
        )

    def _lock_file(self, name: str) -> Path:
        return self.folder / f".{name}"

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self._lock_file("lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _write_usage(self, usage: Usage) -> None:
        # The file is overwritten in place, so that a process that is killed does not leave an empty file.
        with self._lock_file("lock").open("r+") as file:
            file.write(json.dumps(usage))
            file.truncate()


def node_cache() -> ShardCache:
    """Return this node's cache, with the folder and the limit from environment variables or their defaults.

    Raises:
        ConfigError: An environment variable is invalid.
        RunError: The folder cannot be used.
    """
    cache = ShardCache(cache_folder() / "shards", 0)
    cache.limit = cache_limit(cache.folder, cache.occupied())
    return cache


def _size_of(path: Path) -> int:
    """Return the size of a shard from its file name, which is KEY-SIZE.tar or KEY-SIZE.partial."""
    size = path.stem.rpartition("-")[2]
    return int(size) if size.isdecimal() else 0


def _last_use(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _is_file_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _remove_if_unlocked(path: Path) -> bool:
    """Remove a file unless a process has locked it, and return whether the file no longer exists."""
    try:
        with path.open("rb+") as file:
            if not _try_lock(file.fileno()):
                return False
            path.unlink()
    except FileNotFoundError:
        pass
    return True
