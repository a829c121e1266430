"""The processes that encode shards: either this process or the ranks that ``torchrun`` starts.

``ray_team`` contains the team of a Ray cluster.
"""

import json
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Protocol

from torch.distributed.distributed_c10d import Store
from torch.distributed.rendezvous import rendezvous

from datamodules.encoding.job import EncodeJob, Task
from datamodules.encoding.worker import EncodeWorker
from pocketdit.errors import ConfigError, RunError

_FOREVER = timedelta(days=365)
_POLL_SECONDS = 0.2


class Team(Protocol):
    """Processes that encode shards."""

    def describe(self) -> dict[str, Any]:
        """Return everything that determines the contents of the shards. See ``EncodeWorker.describe``."""
        ...

    def encode(self, tasks: Sequence[Task], show: Callable[[int], None]) -> None:
        """Encode shards in any order.

        Args:
            tasks: The shards to encode.
            show: Function that is called repeatedly with the number of images processed so far.
        """
        ...


class SingleProcess:
    """A team that consists of this process alone."""

    def __init__(self, job: EncodeJob) -> None:
        self._worker = EncodeWorker(job)

    def describe(self) -> dict[str, Any]:
        """Return everything that determines the contents of the shards."""
        return self._worker.describe()

    def encode(self, tasks: Sequence[Task], show: Callable[[int], None]) -> None:
        """Encode the shards one after the other."""
        done = 0

        def progress(images: int) -> None:
            nonlocal done
            done += images
            show(done)

        for task in tasks:
            self._worker.encode(task, progress)


class Ranks:
    """A team of the ranks that ``torchrun`` has started. Each rank takes the next shard as soon as it is free.

    Rank 0 leads: it calls ``encode``, and the other ranks call ``follow``. The ranks coordinate through a key-value
    store instead of a process group, so they do not wait for each other between shards.

    Args:
        job: What to encode, and with which encoders.

    Attributes:
        rank: The rank of this process.
    """

    def __init__(self, job: EncodeJob) -> None:
        self._store, self.rank, self._world_size = join_ranks()
        self._worker = EncodeWorker(job)

    def describe(self) -> dict[str, Any]:
        """Return everything that determines the contents of the shards."""
        return self._worker.describe()

    def encode(self, tasks: Sequence[Task], show: Callable[[int], None]) -> None:
        """Encode the shards together with the other ranks, and wait until all ranks have finished.

        Raises:
            RunError: A rank has failed.
        """
        self._store.set("tasks", json.dumps([self.describe(), tasks]))
        self._take(tasks, lambda images: show(self._store.add("images", images)))
        while self._store.add("finished", 0) < self._world_size:
            if self._store.check(["failure"]):
                raise RunError(self._store.get("failure").decode())
            show(self._store.add("images", 0))
            time.sleep(_POLL_SECONDS)

    def follow(self) -> None:
        """Encode shards from the list that rank 0 provides until none are left.

        Raises:
            ConfigError: The encoders or the source of this rank differ from those of rank 0.
        """
        try:
            plan, tasks = json.loads(self._store.get("tasks"))
            if plan != json.loads(json.dumps(self.describe())):
                raise ConfigError(f"the data set or the encoders of rank {self.rank} differ from those of rank 0")
            self._take([Task(split, shard, tuple(sizes)) for split, shard, sizes in tasks], self._count)
        except Exception as error:
            self._store.set("failure", f"rank {self.rank}: {error}")
            raise

    def _count(self, images: int) -> None:
        self._store.add("images", images)

    def _take(self, tasks: Sequence[Task], progress: Callable[[int], None]) -> None:
        while (number := self._store.add("next", 1) - 1) < len(tasks):
            self._worker.encode(tasks[number], progress)
        self._store.add("finished", 1)


def join_ranks() -> tuple[Store, int, int]:
    """Return the store that the ranks share, this process's rank, and the number of ranks."""
    store, rank, world_size = next(iter(rendezvous("env://")))
    store.set_timeout(_FOREVER)  # rank 0 may take longer than the default timeout to load its encoders
    return store, rank, world_size
