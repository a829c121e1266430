"""Turns planned batches into tensors, in worker processes, and leaves out samples that are broken."""

import logging
import os
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from datamodules.shards import stateless_random
from datamodules.shards.buckets import Bucket
from datamodules.shards.decode import decode_image, decode_latent
from datamodules.shards.index import SplitIndex
from datamodules.shards.order import Request
from datamodules.shards.reader import ShardReader
from datamodules.shards.schema import SampleError, parse_sample
from pocketdit.errors import RunError

_LOG = logging.getLogger(__name__)

Batch = dict[str, Any]
CaptionChoice = Literal["random", "short", "long"] | float


class ShardBatches(Dataset["Batch | RunError"]):
    """Fetches a whole batch for a ``Request``; a pure function of it.

    A batch is {"images": uint8 (B, 3, H, W)} or {"latents": float32 (B, C, h, w)} with "captions" (list of
    str), "ids" (int64 (B,), rows of the index), "keys" (list of str) and "skipped" (list of str: place and
    reason of each sample of the batch that is broken and so left out). If all are broken, the batch is made
    of the rows that follow in the index with the same bucket (every rank has to take its step). If that whole
    bucket is broken the result is a ``RunError``, returned for the loader to raise.

    Args:
        buckets: the list of sizes; ``bucket_of`` (N,) is each row's number in it.
        autoencoder: of dataset.json, for latents.
        caption: "random" (any), "short" (the first), "long" (any other), or the short one's probability: whole
            batches have short ones or long ones.
        crop: where an image is cut that has not its bucket's aspect ratio.
        flip: mirror half of the images. Captions that say left and right become wrong.
    """

    def __init__(
        self,
        index: SplitIndex,
        buckets: Sequence[Bucket],
        bucket_of: NDArray[np.integer],
        *,
        seed: int = 0,
        autoencoder: dict[str, Any] | None = None,
        caption: CaptionChoice = "random",
        crop: Literal["center", "random"] = "center",
        flip: bool = False,
    ) -> None:
        self._reader = ShardReader(index)
        self._buckets, self._bucket_of, self._autoencoder = buckets, bucket_of, autoencoder
        self._seed, self._caption, self._crop, self._flip = seed, caption, crop, flip

    def __getitem__(self, request: Request) -> "Batch | RunError":
        skipped: list[str] = []
        bucket = int(self._bucket_of[request.rows[0]])
        for rows in self._candidates(request.rows, bucket):
            chances = self._chances(request.epoch, rows)
            fetched = [self._fetch(int(row), chance, skipped) for row, chance in zip(rows, chances, strict=True)]
            samples = [sample for sample in fetched if sample is not None]
            if samples:
                return self._collate(samples, skipped)
        width, height = self._buckets[bucket]
        return RunError(
            f"{self._reader.index.folder}: all {len(skipped)} samples of bucket {width}x{height} are broken,"
            f" the first: {skipped[0]}; run 'lightning data validate' on the data set"
        )

    def _candidates(self, rows: NDArray[np.int64], bucket: int) -> Iterator[NDArray[np.int64]]:
        """The rows themselves, then (if none is good) the others of the bucket from there on, in turn."""
        yield rows
        others = np.setdiff1d(np.flatnonzero(self._bucket_of == bucket), rows)
        others = np.roll(others, -int(np.searchsorted(others, rows[-1])))
        for start in range(0, len(others), len(rows)):
            yield others[start : start + len(rows)]

    def _chances(self, epoch: int, rows: NDArray[np.int64]) -> list["_Chance"]:
        # One length of caption a batch, so that short ones are not padded to a long one's tokens.
        length = float(stateless_random.uniform(stateless_random.CAPTION_LENGTH, self._seed, epoch, rows[:1])[0])
        purposes = (
            stateless_random.CAPTION,
            stateless_random.CROP_ACROSS,
            stateless_random.CROP_DOWN,
            stateless_random.FLIP,
        )
        columns = [stateless_random.uniform(purpose, self._seed, epoch, rows).tolist() for purpose in purposes]
        return [_Chance(length, *values) for values in zip(*columns, strict=True)]

    def _fetch(self, row: int, chance: "_Chance", skipped: list[str]) -> dict[str, Any] | None:
        index = self._reader.index
        name = f"row {row}"
        try:
            key, members = self._reader.members(row)
            name = f"sample {key}"
            sample = parse_sample(members, index.kind)
            if index.kind == "latent":
                tensor = decode_latent(sample, self._autoencoder)
            else:
                bucket = self._buckets[self._bucket_of[row]]
                across, down = (chance.across, chance.down) if self._crop == "random" else (0.5, 0.5)
                flip = self._flip and chance.flip < 0.5
                tensor = decode_image(sample, bucket, across=across, down=down, flip=flip)
        except SampleError as error:
            skipped.append(f"{index.place(row)}: {name}: {error}")
            return None
        caption = choose_caption(sample.captions, self._caption, chance.length, chance.caption)
        return {"tensor": tensor, "caption": caption, "row": row, "key": key}

    def _collate(self, samples: list[dict[str, Any]], skipped: list[str]) -> Batch:
        name = "latents" if self._reader.index.kind == "latent" else "images"
        return {
            name: torch.stack([sample["tensor"] for sample in samples]),
            "captions": [sample["caption"] for sample in samples],
            "ids": torch.tensor([sample["row"] for sample in samples], dtype=torch.int64),
            "keys": [sample["key"] for sample in samples],
            "skipped": skipped,
        }


class _Chance(NamedTuple):
    """What is left to chance of one sample in one epoch, each uniform in [0, 1); ``length`` is the whole batch's."""

    length: float
    caption: float
    across: float
    down: float
    flip: float


def choose_caption(captions: Sequence[str], choice: CaptionChoice, length: float, draw: float) -> str:
    """One of the captions, by two draws in [0, 1): short or long by ``length``, which of the long ones by ``draw``.

    A sample with one caption always gives that one.
    """
    if choice == "random":
        return captions[int(draw * len(captions))]
    share = {"short": 1.0, "long": 0.0}[choice] if isinstance(choice, str) else choice
    longer = captions[1:] or captions
    return captions[0] if length < share else longer[int(draw * len(longer))]


class SkipCount:
    """Counts broken samples and logs each once."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def __len__(self) -> int:
        return len(self._seen)

    def add(self, skipped: Iterable[str]) -> None:
        for line in skipped:
            if line not in self._seen:
                self._seen.add(line)
                _LOG.warning("skipped %s (%d so far)", line, len(self._seen))


def use_all_processors(_worker: int) -> None:
    """Free a worker from the one processor that OMP_PROC_BIND binds the training's main thread to."""
    if hasattr(os, "sched_setaffinity") and os.environ.get("OMP_PROC_BIND", "false").lower() != "false":
        os.sched_setaffinity(0, range(os.cpu_count() or 1))


class BatchLoader:
    """An iterable of batches, always in planned order, whatever the number of workers.

    Not itself a ``DataLoader``, so that Lightning leaves its sampler alone: the plan has shared the batches
    out to the ranks already. A new pass ends the one before.

    Args:
        batches: what to fetch from.
        requests: called at the start of each pass; what to fetch.
        start_method: of the workers ("fork", "spawn"; None: the system's default).
    """

    def __init__(
        self,
        batches: ShardBatches,
        requests: Callable[[], Iterable[Request]],
        *,
        workers: int,
        skips: SkipCount,
        start_method: str | None = None,
    ) -> None:
        self._batches, self._requests = batches, requests
        self._workers, self._skips, self._start_method = workers, skips, start_method
        # Weak, here and in whoever keeps a loader: in a reference cycle workers take seconds to end.
        self._running: weakref.ref[Generator[Batch, None, None]] | None = None

    def __iter__(self) -> Iterator[Batch]:
        self._end_pass()
        running = self._pass()
        self._running = weakref.ref(running)
        return running

    def close(self) -> None:
        """Ends the workers at once."""
        self._end_pass()

    def _end_pass(self) -> None:
        if self._running is not None and (running := self._running()) is not None:
            running.close()
        self._running = None

    def _pass(self) -> Generator[Batch, None, None]:
        for batch in self._loader():
            if isinstance(batch, RunError):
                raise batch
            self._skips.add(batch["skipped"])
            yield batch

    def _loader(self, *, persistent: bool = False) -> "DataLoader[Batch | RunError]":
        return DataLoader(
            self._batches,
            batch_size=None,
            sampler=self._requests(),  # type: ignore[arg-type]
            collate_fn=_unchanged,
            num_workers=self._workers,
            persistent_workers=persistent and self._workers > 0,
            multiprocessing_context=self._start_method if self._workers else None,
            worker_init_fn=use_all_processors,
            pin_memory=torch.cuda.is_available(),
            # Its own generator: DataLoader draws a number from the global one in every pass.
            generator=torch.Generator(),
        )


class SizedBatchLoader(BatchLoader):
    """A ``BatchLoader`` over a list of batches, the same in every pass; its workers stay between passes."""

    def __init__(self, batches: ShardBatches, requests: Sequence[Request], **options: Any) -> None:
        super().__init__(batches, lambda: requests, **options)
        self._length = len(requests)
        self._kept: DataLoader[Batch | RunError] | None = None

    def __len__(self) -> int:
        return self._length

    def close(self) -> None:
        super().close()
        self._kept = None

    def _loader(self, *, persistent: bool = True) -> "DataLoader[Batch | RunError]":
        if self._kept is None:
            self._kept = super()._loader(persistent=persistent)
        return self._kept


def _unchanged(batch: Any) -> Any:
    return batch
