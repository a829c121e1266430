"""The shards of a remote split, which each process fetches in advance and holds while they are in use."""

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from datamodules.remote.cache import ShardCache
from datamodules.remote.storage import RemoteFile, Storage
from pocketdit.errors import RunError

_THREADS = 4  # downloads per process; some use the bandwidth while others wait for a response or check the content
_POLL = 0.1  # seconds until the next attempt if another process is downloading a shard or there is no room for it
_IDLE = 0.5  # seconds between checks for processes that are waiting for room


class RemoteShards:
    """Reads the shards of a remote split through the node's cache.

    Args:
        storage: The storage that contains the shards.
        cache: The node's cache.
        files: The shards, in the order of the index.

    Attributes:
        failure: The error of the first shard that this process could not read. Readers skip damaged samples, but a
            missing shard must end the run, which would otherwise train on different samples than with a local data set.
    """

    def __init__(self, storage: Storage, cache: ShardCache, files: Sequence[RemoteFile]) -> None:
        self.storage, self.cache, self.files = storage, cache, tuple(files)
        self.failure: RunError | None = None
        self._holds: _Holds | None = None
        self._process = 0

    def read(self, shard: int, length: int, offset: int) -> bytes:
        """Read bytes of a shard. Unless the shard is expected (see ``expect``), it is released afterward.

        Raises:
            RunError: The shard cannot be downloaded. Further reads raise the same error immediately.
        """
        with self.use(shard) as descriptor:
            return os.pread(descriptor, length, offset)

    @contextmanager
    def use(self, shard: int) -> Iterator[int]:
        """Hold a shard, and yield its descriptor.

        Raises:
            RunError: The shard cannot be downloaded.
        """
        holds = self._own_holds()
        if self.failure is not None:
            raise self.failure
        try:
            descriptor = holds.take(shard)
        except RunError as error:
            self.failure = error
            raise
        try:
            yield descriptor
        finally:
            holds.give_back(shard)

    def expect(self, keep: Sequence[int], ahead: Sequence[int]) -> None:
        """Start to fetch the given shards in the background, and release all other shards.

        Args:
            keep: Shards that are needed soon, in order.
            ahead: Shards that are needed later, in order.
        """
        self._own_holds().expect(tuple(dict.fromkeys([*keep, *ahead])))

    def close(self) -> None:
        """Release all shards, and cancel the downloads that have not started."""
        if self._holds is not None and self._process == os.getpid():
            self._holds.close()
        self._holds = None

    def fetch(self, shard: int, *, wait: bool, make_room: Callable[[], None]) -> int | None:
        """Return a descriptor of a shard in the cache; see ``ShardCache.hold``."""
        file, storage = self.files[shard], self.storage
        return self.cache.hold(
            (storage.address, file.name, file.tag),
            file.size,
            lambda path: storage.download(file, path),
            wait=wait,
            make_room=make_room,
        )

    def _own_holds(self) -> "_Holds":
        if self._holds is None or self._process != os.getpid():
            if self._holds is not None:  # inherited descriptors, which share the parent's locks
                self._holds.close_inherited()
            self.storage.connect()
            self._holds, self._process, self.failure = _Holds(self), os.getpid(), None
        return self._holds

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_holds": None, "_process": 0, "failure": None}


class _Holds:
    """The shards that a process holds, and the threads that fetch expected shards."""

    def __init__(self, shards: RemoteShards) -> None:
        self._shards = shards
        self._descriptors: dict[int, int] = {}
        self._users: Counter[int] = Counter()
        self._expected: tuple[int, ...] = ()
        self._fetching: set[int] = set()
        self._later: dict[int, float] = {}  # shards that could not be fetched, and the times of the next attempts
        self._threads: list[threading.Thread] = []
        self._is_closed = False
        self._changed = threading.Condition()

    def take(self, shard: int) -> int:
        with self._changed:
            if shard in self._descriptors:
                self._users[shard] += 1
                return self._descriptors[shard]
        descriptor = self._shards.fetch(shard, wait=True, make_room=self.let_go_of_idle)
        assert descriptor is not None
        with self._changed:
            self._users[shard] += 1
            self._keep(shard, descriptor)
            return self._descriptors[shard]

    def give_back(self, shard: int) -> None:
        with self._changed:
            self._users[shard] -= 1
            if shard not in self._expected:
                self._let_go_of(shard)

    def expect(self, shards: tuple[int, ...]) -> None:
        with self._changed:
            if shards == self._expected:
                return
            self._expected = shards
            self._later.clear()
            for shard in set(self._descriptors) - set(shards):
                self._let_go_of(shard)
            while len(self._threads) < _THREADS:
                self._threads.append(threading.Thread(target=self._fetch_expected, daemon=True))
                self._threads[-1].start()
            self._changed.notify_all()

    def let_go_of_idle(self) -> None:
        """Release all shards that are not being read, because a process is waiting for room."""
        with self._changed:
            for shard in tuple(self._descriptors):
                self._let_go_of(shard)

    def close(self) -> None:
        with self._changed:
            self._is_closed, self._expected = True, ()
            for shard in tuple(self._descriptors):
                self._let_go_of(shard)
            self._changed.notify_all()

    def close_inherited(self) -> None:
        """Close inherited descriptors in a forked process. The lock is not used, as its copy may be held forever."""
        for descriptor in self._descriptors.values():
            os.close(descriptor)

    def _keep(self, shard: int, descriptor: int) -> None:
        if shard in self._descriptors:
            os.close(descriptor)
        else:
            self._descriptors[shard] = descriptor

    def _let_go_of(self, shard: int) -> None:
        if not self._users[shard] and shard in self._descriptors:
            os.close(self._descriptors.pop(shard))

    def _fetch_expected(self) -> None:
        while not self._is_closed:
            if self._shards.cache.is_waited_for():
                self.let_go_of_idle()
                time.sleep(_POLL)
                continue
            with self._changed:
                shard = self._next()
                if shard is None:
                    self._changed.wait(_POLL if self._later else _IDLE)
                    continue
                self._fetching.add(shard)
            descriptor, again = self._try_to_fetch(shard)
            with self._changed:
                self._fetching.discard(shard)
                if descriptor is None:
                    self._later[shard] = time.monotonic() + again
                    continue
                self._keep(shard, descriptor)
                if shard not in self._expected:
                    self._let_go_of(shard)

    def _try_to_fetch(self, shard: int) -> tuple[int | None, float]:
        try:
            return self._shards.fetch(shard, wait=False, make_room=self.let_go_of_idle), _POLL
        except RunError:
            return None, float("inf")  # a read of the shard tries again and reports the error

    def _next(self) -> int | None:
        now = time.monotonic()
        for shard in self._expected:
            is_known = shard in self._descriptors or shard in self._fetching
            if not is_known and self._later.get(shard, 0.0) <= now:
                return shard
        return None
