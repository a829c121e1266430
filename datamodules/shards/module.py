"""The data module: multi-aspect batches from shards, shared out to ranks, resumed to the sample."""

import logging
import weakref
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch import LightningDataModule
from lightning.pytorch.loops.progress import _ProcessedTracker

from datamodules.shards.buckets import SIDE_MULTIPLE, assign_buckets, exact_buckets
from datamodules.shards.index import SplitIndex, load_index
from datamodules.shards.loader import BatchLoader, ShardBatches, SizedBatchLoader, SkipCount
from datamodules.shards.order import BatchStream, batches_per_epoch, validation_batches
from datamodules.shards.schema import SPLITS, DatasetInfo, read_info
from pocketdit.errors import ConfigError, RunError

_LOG = logging.getLogger(__name__)
_MOST_LINES = 20
# A change of these changes which samples a batch number stands for.
_PLAN_KEYS = ("batch_size", "world_size", "seed", "base_size", "window", "fingerprint")


class ShardDataModule(LightningDataModule):
    """Batches of one size each, from a data set in the shard format (see ``schema``).

    Training batches are endless (count steps, not epochs). Each epoch uses every readable sample exactly
    once. ``state_dict`` holds the number of batches that the trainer has processed, so a run that goes on
    from a checkpoint sees exactly the samples it would have seen, whatever the workers had fetched ahead.

    Args:
        path: the data set's folder.
        batch_size: samples of a batch on each rank.
        base_size: images are cut to buckets of about ``base_size**2`` pixels. Latents keep their size.
        workers: processes that read and decode; 0 for none.
        seed: of the order, captions and cuts.
        window: shards whose samples are shuffled together.
        caption: "random", "short", "long", or the probability that a batch has the short ones.
        crop: where images are cut.
        flip: mirror half of the images (captions that say left and right become wrong).
        validation_batch_size: default ``batch_size``.
        validation_samples: at most so many held-out samples, the first of the split; default all.
        allow_changes: go on from a checkpoint although batch size, ranks, seed, base size, window or data
            have changed: at the same number of samples, no longer exactly the same ones.
    """

    def __init__(
        self,
        path: str,
        batch_size: int,
        base_size: int = 128,
        workers: int = 2,
        seed: int = 0,
        window: int = 64,
        caption: Literal["random", "short", "long"] | float = "random",
        crop: Literal["center", "random"] = "center",
        flip: bool = False,
        validation_batch_size: int | None = None,
        validation_samples: int | None = None,
        allow_changes: bool = False,
    ) -> None:
        super().__init__()
        for name, value, minimum in (
            ("batch_size", batch_size, 1),
            ("workers", workers, 0),
            ("window", window, 1),
            ("validation_batch_size", validation_batch_size, 1),
            ("validation_samples", validation_samples, 1),
        ):
            if value is not None and value < minimum:
                raise ConfigError(f"{name}: {value} is less than {minimum}")
        if base_size < SIDE_MULTIPLE or base_size % SIDE_MULTIPLE:
            raise ConfigError(f"base_size: {base_size} is no multiple of {SIDE_MULTIPLE}")
        valid = caption in ("random", "short", "long") if isinstance(caption, str) else 0 <= caption <= 1
        if not valid:
            raise ConfigError(f'caption: {caption!r} is not "random", "short", "long" or a probability')
        self.path = Path(path).expanduser()
        self.batch_size, self.base_size, self.workers, self.seed = batch_size, base_size, workers, seed
        self.window, self.caption, self.crop, self.flip = window, caption, crop, flip
        self.validation_batch_size = validation_batch_size or batch_size
        self.validation_samples = validation_samples
        self.allow_changes = allow_changes
        self.start_batch = 0
        self.skips = SkipCount()
        self._counted_by: object | None = None
        self._processed_before = 0
        self._splits: dict[str, _Split] = {}
        self._training: weakref.ref[BatchLoader] | None = None  # it refers to this module itself
        self._validation: SizedBatchLoader | None = None

    def prepare_data(self) -> None:
        """Writes the index beside the shards (Lightning calls this in one process of a machine)."""
        kind = read_info(self.path).kind
        for split in SPLITS:
            load_index(self.path, split, kind)

    def setup(self, stage: str | None = None) -> None:
        if self._splits:
            return
        info = read_info(self.path)
        for name in SPLITS:
            self._splits[name] = _Split(info, load_index(self.path, name, info.kind), self.base_size)
        if not len(self.split("train")):
            raise RunError(f"{self.path}: no readable training sample; run 'lightning data validate' on it")
        self._report_skipped()

    def split(self, name: str) -> SplitIndex:
        """The index of "train" or "validation"."""
        return self._split(name).index

    @property
    def info(self) -> DatasetInfo:
        return self._split("train").info

    @property
    def fingerprint(self) -> str:
        """Of the data set and of what of it is readable."""
        return f"{self.info.fingerprint}-{self.split('train').digest}"

    @property
    def skipped(self) -> int:
        """Samples and shard ends left out so far, by the index and by this process's loaders."""
        return sum(len(split.index.skipped) for split in self._splits.values()) + len(self.skips)

    @property
    def batches_per_epoch(self) -> int:
        """Steps of each rank for one pass over the training samples."""
        return batches_per_epoch(self._split("train").bucket_of, self.batch_size, self._world()[0])

    def train_dataloader(self) -> BatchLoader:
        """Endless, from the batch after the last one processed."""
        self.start_batch = self._position()
        self._counted_by, self._processed_before = self.trainer, self._processed()
        split = self._split("train")
        loader = BatchLoader(self._batches(split), self._stream, workers=self.workers, skips=self.skips)
        self._training = weakref.ref(loader)
        return loader

    def val_dataloader(self) -> SizedBatchLoader | list[Any]:
        """Held-out samples in a fixed order, each once, the same number of batches on every rank."""
        if self._validation is None:
            split = self._split("validation")
            bucket_of = split.bucket_of[: self.validation_samples]
            if not len(bucket_of):
                return []
            world_size, rank = self._world()
            requests = validation_batches(
                bucket_of, batch_size=self.validation_batch_size, world_size=world_size, rank=rank
            )
            self._validation = SizedBatchLoader(
                self._batches(split), requests, workers=min(self.workers, len(requests)), skips=self.skips
            )
        return self._validation

    def teardown(self, stage: str | None = None) -> None:
        """Ends the workers (Lightning calls this at the end of a fit)."""
        training = self._training() if self._training is not None else None
        for loader in (training, self._validation):
            if loader is not None:
                loader.close()

    def on_exception(self, exception: BaseException) -> None:
        self.teardown()

    def state_dict(self) -> dict[str, Any]:
        """Plain values. "batches" is what this rank's trainer has processed (the same on every rank)."""
        batches = self._position()
        samples = batches * len(self.split("train")) // self.batches_per_epoch
        return {"batches": batches, "samples": samples, **self._plan()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Raises:
        RunError: something has changed that decides which samples come next (without ``allow_changes``).
        """
        plan = self._plan()
        before = {key: state_dict[key] for key in _PLAN_KEYS}
        changed = [f"{key} was {before[key]}, now {plan[key]}" for key in plan if plan[key] != before[key]]
        if changed and not self.allow_changes:
            raise RunError(
                f"{self.path}: cannot go on exactly from the checkpoint: {'; '.join(changed)};"
                " restore it, or set the data module's allow_changes to go on with other samples"
            )
        if changed:
            _LOG.warning("%s: goes on with other samples: %s", self.path, "; ".join(changed))
            epochs = state_dict["samples"] / len(self.split("train"))
            self.start_batch = round(epochs * self.batches_per_epoch)
        else:
            self.start_batch = state_dict["batches"]
        self._counted_by = None

    def _stream(self) -> BatchStream:
        split, (world_size, rank) = self._split("train"), self._world()
        return BatchStream(
            split.index.shard,
            split.bucket_of,
            batch_size=self.batch_size,
            seed=self.seed,
            world_size=world_size,
            rank=rank,
            window=self.window,
            start=self._position(),
        )

    def _position(self) -> int:
        """Batches that this rank has processed since the start of training, over all resumes."""
        if self._counted_by is None or self._counted_by is not self.trainer:
            return self.start_batch
        return self.start_batch + self._processed() - self._processed_before

    def _processed(self) -> int:
        # Lightning counts a batch as processed after training_step and before on_train_batch_end, where
        # checkpoints are saved, and restores the count before it asks for the loader.
        if self.trainer is None:
            return 0
        total = self.trainer.fit_loop.epoch_loop.batch_progress.total
        assert isinstance(total, _ProcessedTracker)
        return total.processed

    def _plan(self) -> dict[str, Any]:
        own = {key: getattr(self, key) for key in _PLAN_KEYS if key != "world_size"}
        return {**own, "world_size": self._world()[0]}

    def _world(self) -> tuple[int, int]:
        return (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)

    def _split(self, name: str) -> "_Split":
        self.setup()
        return self._splits[name]

    def _batches(self, split: "_Split") -> ShardBatches:
        training = split.index.folder.name == "train"
        return ShardBatches(
            split.index,
            split.buckets,
            split.bucket_of,
            seed=self.seed,
            autoencoder=split.info.autoencoder,
            caption=self.caption,
            crop=self.crop if training else "center",
            flip=self.flip and training,
        )

    def _report_skipped(self) -> None:
        skipped = [entry for split in self._splits.values() for entry in split.index.skipped]
        for entry in skipped[:_MOST_LINES]:
            _LOG.warning("skipped %s", entry)
        if len(skipped) > _MOST_LINES:
            more = len(skipped) - _MOST_LINES
            _LOG.warning("skipped %d more; 'lightning data validate %s' lists all", more, self.path)


class _Split:
    """A split's index with the bucket of every row."""

    def __init__(self, info: DatasetInfo, index: SplitIndex, base_size: int) -> None:
        self.info, self.index = info, index
        if info.kind == "latent":
            self.buckets, self.bucket_of = exact_buckets(index.width, index.height)
        else:
            self.buckets, self.bucket_of = assign_buckets(index.width, index.height, base_size)
