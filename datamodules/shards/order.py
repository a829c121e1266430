"""Which samples make up which batch: a pure function of the index, the seed and the epoch.

An epoch uses every row exactly once. Shards are shuffled, rows are shuffled within a window of shards, and
each batch is of one bucket. What is left of a bucket after a window waits for the next window. Every rank
gets the same number of batches, so the number of batches of an epoch is a multiple of the number of ranks.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from datamodules.shards import stateless_random
from pocketdit.errors import RunError


class Request(NamedTuple):
    """One rank's batch: what the loader has to fetch."""

    epoch: int
    rows: NDArray[np.int64]


def batch_sizes(counts: Sequence[int], batch_size: int, world_size: int) -> list[list[int]]:
    """Sizes of every bucket's batches in an epoch, largest first: full ones, then the rest of each bucket.

    Where their number is no multiple of ``world_size``, the largest are split in halves until it is.

    Raises:
        RunError: too few samples for that.
    """
    sizes = [_chunks(count, batch_size) for count in counts]
    for _ in range(-sum(map(len, sizes)) % world_size):
        largest = max(range(len(sizes)), key=lambda bucket: sizes[bucket][:1])
        whole = sizes[largest].pop(0)
        if whole < 2:
            raise RunError(
                f"{sum(counts)} samples in batches of {batch_size} cannot be shared out evenly to"
                f" {world_size} processes; use fewer processes, more samples, or a batch size of at least 2"
            )
        sizes[largest] = sorted([*sizes[largest], whole - whole // 2, whole // 2], reverse=True)
    return sizes


def _chunks(count: int, size: int) -> list[int]:
    rest = count % size
    return [size] * (count // size) + ([rest] if rest else [])


def epoch_batches(
    shards: NDArray[np.integer],
    buckets: NDArray[np.integer],
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    world_size: int = 1,
    window: int = 64,
) -> Iterator[NDArray[np.int64]]:
    """The batches (rows) of one epoch, for all ranks: batch i belongs to rank i % world_size.

    Args:
        shards: (N,) shard of each row, ascending.
        buckets: (N,) bucket of each row.
        window: shards whose rows are shuffled together. Larger shuffles better, smaller reads fewer files.
    """
    bucket_count = int(buckets.max()) + 1
    waiting_sizes = batch_sizes(np.bincount(buckets, minlength=bucket_count).tolist(), batch_size, world_size)
    for sizes in waiting_sizes:
        sizes.reverse()
    waiting_rows = [np.empty(0, dtype=np.int64) for _ in range(bucket_count)]
    shard_count = int(shards[-1]) + 1
    first = np.searchsorted(shards, np.arange(shard_count + 1))
    order = stateless_random.permutation(shard_count, stateless_random.SHARDS, seed, epoch)
    for start in range(0, shard_count, window):
        chosen = order[start : start + window]
        rows = np.concatenate([np.arange(first[shard], first[shard + 1]) for shard in chosen])
        rows = rows[stateless_random.permutation(len(rows), stateless_random.SAMPLES, seed, epoch, start)]
        batches = []
        for bucket in range(bucket_count):
            pool = np.concatenate([waiting_rows[bucket], rows[buckets[rows] == bucket]])
            sizes = waiting_sizes[bucket]
            while sizes and len(pool) >= sizes[-1]:
                size = sizes.pop()
                batches.append(pool[:size])
                pool = pool[size:]
            waiting_rows[bucket] = pool
        for i in stateless_random.permutation(len(batches), stateless_random.BATCHES, seed, epoch, start):
            yield batches[i]


class BatchStream(Sampler[Request]):
    """One rank's endless sequence of batches, epoch after epoch, from batch number ``start``.

    Args: as for ``epoch_batches``; ``rank`` in [0, world_size).
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

    def __iter__(self) -> Iterator[Request]:
        epoch, seen = divmod(self._start, self.batches_per_epoch)
        while True:
            batches = epoch_batches(
                self._shards,
                self._buckets,
                batch_size=self._batch_size,
                seed=self._seed,
                epoch=epoch,
                world_size=self._world_size,
                window=self._window,
            )
            for number, rows in enumerate(batches):
                if number % self._world_size == self._rank and number // self._world_size >= seen:
                    yield Request(epoch, rows)
            epoch, seen = epoch + 1, 0


def batches_per_epoch(buckets: NDArray[np.integer], batch_size: int, world_size: int) -> int:
    """Batches of an epoch for each rank; the same in every epoch."""
    return sum(map(len, batch_sizes(np.bincount(buckets).tolist(), batch_size, world_size))) // world_size


def validation_batches(
    buckets: NDArray[np.integer], *, batch_size: int, world_size: int = 1, rank: int = 0
) -> list[Request]:
    """One rank's batches for validation: every row once, in the order of the index, nothing shuffled."""
    sizes = batch_sizes(np.bincount(buckets).tolist(), batch_size, world_size)
    batches = []
    for bucket, lengths in enumerate(sizes):
        rows = np.flatnonzero(buckets == bucket)
        batches += np.split(rows, np.cumsum(lengths)[:-1]) if lengths else []
    return [Request(0, rows) for rows in batches[rank::world_size]]
