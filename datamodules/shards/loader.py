"""Loads batches in worker processes, always in the requested order."""

import logging
import os
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset
from typing_extensions import override

from datamodules.remote.shards import RemoteShards
from datamodules.shards.batches import Batch, ShardBatches
from datamodules.shards.order import BatchRequest
from pocketdit.errors import RunError

_LOG = logging.getLogger(__name__)


class SkippedSamples:
    """Counts broken samples and logs each one once."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def __len__(self) -> int:
        return len(self._seen)

    def add(self, skipped: Iterable[str]) -> None:
        """Count and log descriptions of skipped samples, unless they have been added before."""
        for line in skipped:
            if line not in self._seen:
                self._seen.add(line)
                _LOG.warning("skipped %s (%d so far)", line, len(self._seen))


def use_all_processors(_worker: int) -> None:
    """Let a worker run on every processor, not only on the one to which OMP_PROC_BIND binds the main thread."""
    if hasattr(os, "sched_setaffinity") and os.environ.get("OMP_PROC_BIND", "false").lower() != "false":
        os.sched_setaffinity(0, range(os.cpu_count() or 1))


class StreamedBatches(Dataset["Batch | RunError"]):
    """Batches of a split in remote storage. The shards are fetched in advance.

    If a shard remains unavailable, the item is a ``RunError`` in place of the batch. Skipping the shard would silently
    change the training samples, whereas a run that has ended can be resumed at the exact sample.

    Args:
        batches: The batches of the split.
        shards: The shards that contain the samples of the batches.
    """

    def __init__(self, batches: ShardBatches, shards: RemoteShards) -> None:
        self._batches, self._shards = batches, shards

    def __getitem__(self, request: BatchRequest) -> "Batch | RunError":
        self._shards.expect(request.keep.tolist(), request.ahead.tolist())
        batch = self._batches[request]
        return self._shards.failure or batch


class BatchLoader:
    """An iterable of batches whose order does not depend on the number of workers.

    This class is not a ``DataLoader``, because Lightning would replace a ``DataLoader``'s sampler. The requests are
    already divided among the ranks. Starting a new pass ends the previous pass.

    Args:
        batches: The source of the batches.
        requests: Function that is called at the start of each pass and returns the requests for the batches.
        workers: Number of worker processes. 0 loads batches in the main process.
        skipped: Counter of the broken samples.
        start_method: How workers are started ("fork" or "spawn"). None uses the system's default.
    """

    def __init__(
        self,
        batches: ShardBatches | StreamedBatches,
        requests: Callable[[], Iterable[BatchRequest]],
        *,
        workers: int,
        skipped: SkippedSamples,
        start_method: str | None = None,
    ) -> None:
        self._batches, self._requests = batches, requests
        self._workers, self._skipped, self._start_method = workers, skipped, start_method
        # References to loaders are weak, because the workers of a loader in a reference cycle take seconds to exit.
        self._running: weakref.ref[Generator[Batch, None, None]] | None = None

    def __iter__(self) -> Iterator[Batch]:
        self._end_pass()
        running = self._pass()
        self._running = weakref.ref(running)
        return running

    def close(self) -> None:
        """Stop the workers immediately."""
        self._end_pass()

    def _end_pass(self) -> None:
        if self._running is not None and (running := self._running()) is not None:
            running.close()
        self._running = None

    def _pass(self) -> Generator[Batch, None, None]:
        for batch in self._loader():
            if isinstance(batch, RunError):
                raise batch
            self._skipped.add(batch["skipped"])
            yield batch

    def _loader(self, *, persistent: bool = False) -> "DataLoader[Batch | RunError]":
        return DataLoader(
            self._batches,
            batch_size=None,
            sampler=self._requests(),
            collate_fn=_identity,
            num_workers=self._workers,
            persistent_workers=persistent and self._workers > 0,
            multiprocessing_context=self._start_method if self._workers else None,
            worker_init_fn=use_all_processors,
            pin_memory=torch.cuda.is_available(),
            # Without a generator of its own, the DataLoader would draw from the global generator in every pass.
            generator=torch.Generator(),
        )


class RepeatedBatchLoader(BatchLoader):
    """A ``BatchLoader`` that yields the same list of batches in every pass and keeps its workers between passes."""

    def __init__(
        self, batches: ShardBatches | StreamedBatches, requests: Sequence[BatchRequest], **options: Any
    ) -> None:
        super().__init__(batches, lambda: requests, **options)
        self._length = len(requests)
        self._data_loader: DataLoader[Batch | RunError] | None = None

    def __len__(self) -> int:
        return self._length

    @override
    def close(self) -> None:
        super().close()
        self._data_loader = None

    def _loader(self, *, persistent: bool = True) -> "DataLoader[Batch | RunError]":
        if self._data_loader is None:
            self._data_loader = super()._loader(persistent=persistent)
        return self._data_loader


def _identity(batch: Any) -> Any:
    return batch
