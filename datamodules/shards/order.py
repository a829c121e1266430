"""The order of the data. It is a pure function of the index, the seed, and the epoch.

Each epoch uses every row of the index exactly once. Shards are shuffled, rows are shuffled within a window of shards,
and all rows of a batch share a bucket. Rows that do not fill a batch at the end of a window are carried over to the
next window, in which their batches come first. Therefore, a loader needs the shards of at most two windows at a time.
The order lists these shards, so that shards in remote storage are fetched in advance. Every rank gets the same number
of batches, so the number of batches in an epoch is a multiple of the number of ranks. If there are too few rows for
that, the first batches of the epoch are repeated at its end.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import count, cycle, islice, pairwise, zip_longest
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from datamodules.shards.stateless_random import Purpose, permutation

ORDER_VERSION = 2  # incremented whenever the same settings yield a different order
_NONE = np.empty(0, dtype=np.int64)


class BatchRequest(NamedTuple):
    """A request for the loader to fetch the rows of one rank's batch.

    Attributes:
        epoch: Index of the epoch.
        rows: Rows of the index.
        keep: Shards that this batch and the following batches need, in the order in which they are needed.
        ahead: Shards that are needed after ``keep``.
    """

    epoch: int
    rows: NDArray[np.int64]
    keep: NDArray[np.int64] = _NONE
    ahead: NDArray[np.int64] = _NONE


class Window(NamedTuple):
    """The batches of all ranks that are shuffled together.

    Attributes:
        epoch: Index of the epoch.
        shards: The window's shards.
        batches: Rows of each batch. Rank i % world_size processes batch i of an epoch.
        carried: For each of the first batches, the shards of earlier windows that this batch and later batches need.
            The remaining batches need no such shards.
    """

    epoch: int
    shards: NDArray[np.int64]
    batches: list[NDArray[np.int64]]
    carried: list[NDArray[np.int64]]


def batch_sizes(counts: Sequence[int], batch_size: int, world_size: int) -> list[list[int]]:
    """Return the batch sizes of each bucket in one epoch, largest first.

    A bucket has full batches and, if there is a remainder, one smaller batch. If the total number of batches is not a
    multiple of ``world_size``, the largest batches are halved until it is, or until every batch has one row.

    Args:
        counts: Number of rows of each bucket.
        batch_size: Rows of a full batch.
        world_size: Number of ranks.
    """
    sizes = [_split_evenly(count, batch_size) for count in counts]
    for _ in range(-sum(map(len, sizes)) % world_size):
        bucket = max(range(len(sizes)), key=lambda bucket: sizes[bucket][:1])
        if sizes[bucket][:1] <= [1]:
            break
        largest = sizes[bucket].pop(0)
        sizes[bucket] = sorted([*sizes[bucket], largest - largest // 2, largest // 2], reverse=True)
    return sizes


def _split_evenly(count: int, size: int) -> list[int]:
    remainder = count % size
    return [size] * (count // size) + ([remainder] if remainder else [])


def repeat_to_multiple(batches: Iterable[NDArray[np.int64]], world_size: int) -> Iterator[NDArray[np.int64]]:
    """Yield the batches, and then repeat the first batches until the total is a multiple of ``world_size``."""
    first: list[NDArray[np.int64]] = []
    count = 0
    for count, batch in enumerate(batches, start=1):
        first += [batch] if count < world_size else []
        yield batch
    yield from islice(cycle(first), -count % world_size)


def epoch_windows(
    shards: NDArray[np.integer],
    buckets: NDArray[np.integer],
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    world_size: int = 1,
    window: int = 64,
) -> Iterator[Window]:
    """Yield the windows of one epoch.

    Args:
        shards: (N,) shard of each row, ascending.
        buckets: (N,) bucket of each row.
        batch_size: Rows of a full batch.
        seed: Seed of the order.
        epoch: Index of the epoch. Each epoch has a different order.
        world_size: Number of ranks.
        window: Number of shards whose rows are shuffled together. A larger window shuffles better; a smaller
            window keeps fewer files open.
    """
    bucket_count = int(buckets.max()) + 1
    remaining_sizes = batch_sizes(np.bincount(buckets, minlength=bucket_count).tolist(), batch_size, world_size)
    for sizes in remaining_sizes:
        sizes.reverse()
    carried_over = [np.empty(0, dtype=np.int64) for _ in range(bucket_count)]
    shard_count = int(shards[-1]) + 1
    first_row = np.searchsorted(shards, np.arange(shard_count + 1))
    shard_order = permutation(shard_count, Purpose.SHARDS, seed, epoch)
    for start in range(0, shard_count, window):
        shards_in_window = shard_order[start : start + window]
        rows = np.concatenate([np.arange(first_row[shard], first_row[shard + 1]) for shard in shards_in_window])
        rows = rows[permutation(len(rows), Purpose.SAMPLES, seed, epoch, start)]
        batches: list[NDArray[np.int64]] = []
        has_carried: list[bool] = []
        for bucket in range(bucket_count):
            carried_rows = len(carried_over[bucket])
            pool = np.concatenate([carried_over[bucket], rows[buckets[rows] == bucket]])
            sizes, taken = remaining_sizes[bucket], 0
            while sizes and len(pool) - taken >= sizes[-1]:
                size = sizes.pop()
                batches.append(pool[taken : taken + size])
                has_carried.append(taken < carried_rows)
                taken += size
            carried_over[bucket] = pool[taken:]
        shuffled = permutation(len(batches), Purpose.BATCHES, seed, epoch, start).tolist()
        batches = [batches[i] for i in sorted(shuffled, key=lambda i: not has_carried[i])]
        carried = _carried_shards(batches[: sum(has_carried)], shards, shards_in_window)
        yield Window(epoch, shards_in_window, batches, carried)


def _carried_shards(
    batches: Sequence[NDArray[np.int64]], shards: NDArray[np.integer], in_window: NDArray[np.int64]
) -> list[NDArray[np.int64]]:
    """For each batch, return the shards outside the window that this batch or any later one needs."""
    needed, needs = _NONE, []
    for batch in reversed(batches):
        needed = np.union1d(needed, np.setdiff1d(shards[batch], in_window))
        needs.append(needed)
    return needs[::-1]


class TrainingOrder(Sampler[BatchRequest]):
    """One rank's endless sequence of training batches, epoch after epoch.

    Args:
        shards: (N,) shard of each row, ascending.
        buckets: (N,) bucket of each row.
        batch_size: Rows of a full batch.
        seed: Seed of the order.
        world_size: Number of ranks.
        rank: This rank, in [0, world_size).
        window: Number of shards whose rows are shuffled together.
        start: Number of this rank's batches to skip, starting with the first epoch.
    """

    def __init__(
        self,
        shards: NDArray[np.integer],
        buckets: NDArray[np.integer],
        *,
        batch_size: int,
        seed: int,
        world_size: int = 1,
        rank: int = 0,
        window: int = 64,
        start: int = 0,
    ) -> None:
        self._shards, self._buckets = shards, buckets
        self._batch_size, self._seed, self._window = batch_size, seed, window
        self._world_size, self._rank, self._start = world_size, rank, start
        self.batches_per_epoch = batches_per_epoch(buckets, batch_size, world_size)

    def __iter__(self) -> Iterator[BatchRequest]:
        epoch, skip = divmod(self._start, self.batches_per_epoch)
        number = 0
        first: list[BatchRequest] = []
        for window, following in pairwise(self._windows(epoch)):
            for rows, carried in zip_longest(window.batches, window.carried, fillvalue=_NONE):
                if number < self._world_size or self._is_own(number, skip):
                    keep = np.concatenate([carried, window.shards])
                    request = BatchRequest(window.epoch, rows, keep, following.shards)
                    first += [request] if number < self._world_size else []
                    if self._is_own(number, skip):
                        yield request
                number += 1
            if following.epoch > window.epoch:
                for request in islice(cycle(first), -number % self._world_size):
                    if self._is_own(number, skip):
                        yield request
                    number += 1
                number, skip, first = 0, 0, []

    def _is_own(self, number: int, skip: int) -> bool:
        return number % self._world_size == self._rank and number // self._world_size >= skip

    def _windows(self, first_epoch: int) -> Iterator[Window]:
        for epoch in count(first_epoch):
            yield from epoch_windows(
                self._shards,
                self._buckets,
                batch_size=self._batch_size,
                seed=self._seed,
                epoch=epoch,
                world_size=self._world_size,
                window=self._window,
            )


def batches_per_epoch(buckets: NDArray[np.integer], batch_size: int, world_size: int) -> int:
    """Return the number of batches per rank in an epoch, which is the same in every epoch."""
    batches = sum(map(len, batch_sizes(np.bincount(buckets).tolist(), batch_size, world_size)))
    return -(-batches // world_size)


def divides_equally(buckets: NDArray[np.integer], batch_size: int, start: int, world_sizes: tuple[int, int]) -> bool:
    """Return whether a run can continue its sequence of batches exactly with another number of ranks.

    Args:
        buckets: (N,) bucket of each row.
        batch_size: Rows of a full batch.
        start: Number of batches that each of the previous ranks has processed.
        world_sizes: The previous and the new number of ranks.
    """
    counts = np.bincount(buckets).tolist()
    first, second = (batch_sizes(counts, batch_size, world_size) for world_size in world_sizes)
    batches = sum(map(len, first))
    multiples = all(batches % world_size == 0 for world_size in world_sizes)
    return first == second and multiples and start * world_sizes[0] % world_sizes[1] == 0


def validation_batches(
    shards: NDArray[np.integer],
    buckets: NDArray[np.integer],
    *,
    batch_size: int,
    world_size: int = 1,
    rank: int = 0,
    window: int = 64,
) -> list[BatchRequest]:
    """Return one rank's validation batches, in the order of their first rows.

    The batches of all ranks contain every row once. If there are too few rows for every rank to have the same number of
    batches, some rows are repeated.

    Args:
        shards: (N,) shard of each row, ascending.
        buckets: (N,) bucket of each row.
        batch_size: Rows of a full batch.
        world_size: Number of ranks.
        rank: This rank, in [0, world_size).
        window: Number of shards to fetch in advance.
    """
    sizes = batch_sizes(np.bincount(buckets).tolist(), batch_size, world_size)
    batches: list[NDArray[np.int64]] = []
    for bucket, bucket_sizes in enumerate(sizes):
        rows = np.flatnonzero(buckets == bucket)
        batches += np.split(rows, np.cumsum(bucket_sizes)[:-1]) if bucket_sizes else []
    batches.sort(key=lambda rows: int(rows[0]))
    own = list(islice(repeat_to_multiple(batches, world_size), rank, None, world_size))
    return _with_shards(own, shards, window)


def _with_shards(batches: Sequence[NDArray[np.int64]], shards: NDArray[np.integer], window: int) -> list[BatchRequest]:
    """Return a request for each batch, with the shards of the batch and up to ``window`` shards of later batches."""
    needed = [np.unique(shards[rows]).astype(np.int64) for rows in batches]
    ahead: deque[int] = deque(maxlen=window)
    requests = []
    for rows, keep in zip(reversed(batches), reversed(needed), strict=True):
        requests.append(BatchRequest(0, rows, keep, np.array(ahead, dtype=np.int64)))
        for shard in reversed(keep.tolist()):
            if shard in ahead:
                ahead.remove(shard)
            ahead.appendleft(shard)
    return requests[::-1]
