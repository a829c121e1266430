"""A data module for shards, with multi-aspect batches that are divided among ranks and resume at the exact sample."""

import logging
import weakref
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

from lightning.pytorch import LightningDataModule
from lightning.pytorch.loops.progress import _ProcessedTracker
from typing_extensions import override

from datamodules.remote.address import local_folder, protocol_of
from datamodules.remote.capacity import require_room_for_plan, require_room_for_workers
from datamodules.shards.batches import ShardBatches, usable_captions
from datamodules.shards.bucketed_split import BucketedSplit, log_problems, require_settings_of_latents
from datamodules.shards.buckets import SIDE_MULTIPLE, BucketShape
from datamodules.shards.index import SplitIndex
from datamodules.shards.loader import BatchLoader, RepeatedBatchLoader, SkippedSamples, StreamedBatches
from datamodules.shards.opening import describe_info, open_dataset, require_dataset
from datamodules.shards.order import (
    ORDER_VERSION,
    TrainingOrder,
    batches_per_epoch,
    divides_equally,
    validation_batches,
)
from datamodules.shards.reader import read_captions, readable_captions
from datamodules.shards.resuming import order_changes
from datamodules.shards.schema import SPLITS, DatasetInfo
from pocketdit.bounds import MAX_SIDE, Between
from pocketdit.config.shell import command_line, operand
from pocketdit.data_contract import DataDescription
from pocketdit.errors import ConfigError, RunError, UserError

_LOG = logging.getLogger(__name__)
# Settings that determine which samples are in the i-th batch.
_ORDER_KEYS = ("batch_size", "world_size", "seed", "base_size", "buckets", "window", "fingerprint")


class ShardDataModule(LightningDataModule):
    """A data module for data sets in the shard format (see ``datamodules.shards.schema``).

    All images in a batch have the same size. The sequence of training batches is endless, so a run counts steps, not
    epochs. Each pass over the data uses every readable sample exactly once. The checkpoint stores the number of batches
    that the trainer has processed, so a resumed run sees exactly the samples that it would have seen without the
    interruption, no matter how far ahead the workers had read.

    Args:
        path: Folder of the data set, or its address in remote storage, such as s3://BUCKET/FOLDER.
        batch_size: Samples per batch on each rank.
        base_size: Images are cropped to buckets of about ``base_size**2`` pixels. Latents keep their size.
        buckets: "aspect" crops each image to the nearest of several aspect ratios; "square" crops every image to a
            square.
        workers: Number of processes that load batches; 0 loads them in the main process.
        seed: Seed of the order, captions, crops, and flips.
        window: Number of shards whose samples are shuffled together.
        caption: "random", "short", "long", or the probability that a batch has the short captions.
        crop: Whether images are cropped at the center or at a random position. Latents always encode center crops.
        flip: Mirror half of the images. Captions that mention left or right become wrong. Latents cannot be mirrored.
        validation_batch_size: Samples per validation batch on each rank; defaults to ``batch_size``.
        validation_samples: Number of samples to use from the start of the validation split; defaults to all.
        allow_changes: Resume even if the data, the number of ranks, or settings of the order have changed. The run then
            resumes after the same number of epochs. If only the number of ranks has changed and both numbers divide the
            batches of an epoch equally, the order still continues at the exact sample.
    """

    def __init__(
        self,
        path: str,
        batch_size: Annotated[int, Between(1, 1_000_000)],
        base_size: int = 128,
        workers: Annotated[int, Between(0, 1024)] = 2,
        seed: int = 0,
        window: int = 64,
        caption: Literal["random", "short", "long"] | float = "random",
        crop: Literal["center", "random"] = "center",
        flip: bool = False,
        validation_batch_size: int | None = None,
        validation_samples: int | None = None,
        allow_changes: bool = False,
        buckets: BucketShape = "aspect",
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
                raise ConfigError(f"{name}: must be at least {minimum}, not {value}")
        if not SIDE_MULTIPLE <= base_size <= MAX_SIDE or base_size % SIDE_MULTIPLE:
            raise ConfigError(f"base_size: must be a multiple of {SIDE_MULTIPLE} up to {MAX_SIDE}, not {base_size}")
        if buckets not in ("aspect", "square"):
            raise ConfigError(f"buckets: {buckets!r} is neither 'aspect' nor 'square'")
        valid = caption in ("random", "short", "long") if isinstance(caption, str) else 0 <= caption <= 1
        if not valid:
            raise ConfigError(f'caption: {caption!r} is not "random", "short", "long" or a probability')
        self.path = local_folder(path) if protocol_of(path) is None else path
        self.batch_size, self.base_size, self.workers, self.seed = batch_size, base_size, workers, seed
        self.window, self.caption, self.crop, self.flip, self.buckets = window, caption, crop, flip, buckets
        self.validation_batch_size = validation_batch_size or batch_size
        self.validation_samples = validation_samples
        self.allow_changes = allow_changes
        self.start_batch = 0
        self._skipped = SkippedSamples()
        self._counted_by: object | None = None
        self._processed_before = 0
        self._splits: dict[str, BucketedSplit] = {}
        self._training: weakref.ref[BatchLoader] | None = None  # weak, because the loader refers to this module
        self._validation: RepeatedBatchLoader | None = None

    @classmethod
    def require_available(cls, init_args: Mapping[str, Any]) -> None:
        """Check that the data set exists, before anything is built.

        Args:
            init_args: The arguments for this class in a configuration.

        Raises:
            ConfigError: The path does not lead to a complete data set.
        """
        path = init_args.get("path")
        if path is not None:
            require_dataset(str(path))

    def describe(self) -> DataDescription:
        """Return a description of the data, which a run records and checks against its configuration."""
        return replace(describe_info(self.info), fingerprint=self.fingerprint)

    @classmethod
    def describe_unopened(cls, init_args: Mapping[str, Any]) -> DataDescription:
        """Return the description of the data in dataset.json, or the defaults if there is no data set yet.

        Args:
            init_args: The arguments for this class in a configuration.
        """
        try:
            return describe_info(open_dataset(str(init_args["path"])).read_info())
        except (KeyError, UserError):
            return DataDescription()

    def read_captions(self, split: str, samples: int) -> tuple[list[str], bool]:
        """Return the captions of up to ``samples`` samples that training may use, and whether this covers the split."""
        index = self.split(split)
        chosen = (usable_captions(captions, self.caption) for captions in read_captions(index, samples))
        return [caption for captions in chosen for caption in captions], len(index) <= min(
            samples, readable_captions(index)
        )

    def prepare_data(self) -> None:
        """Write or fetch the indexes. Lightning calls this in one process per machine."""
        self.setup()

    @override
    def setup(self, stage: str | None = None) -> None:
        if self._splits:
            return
        dataset = open_dataset(str(self.path))
        info = dataset.read_info()
        require_settings_of_latents(self.path, info, self.base_size, self.buckets, self.crop, self.flip)
        for name in SPLITS:
            index = dataset.load_index(name, info)
            self._splits[name] = BucketedSplit(info, index, self.base_size, self.buckets)
        if not len(self.split("train")):
            command = command_line("data", "validate", operand(self.path))
            raise RunError(f"{self.path}: no readable training sample; check the data set with: {command}")
        if (remote := self.split("train").remote) is not None:
            require_room_for_plan(remote, self.window)
        log_problems(self.path, self._splits)

    def split(self, name: str) -> SplitIndex:
        """Return the index of "train" or "validation"."""
        return self._split(name).index

    @property
    def info(self) -> DatasetInfo:
        """The contents of dataset.json."""
        return self._split("train").info

    @property
    def fingerprint(self) -> str:
        """An identifier of the data set and its readable training samples."""
        return f"{self.info.fingerprint}-{self.split('train').digest}"

    @property
    def skipped(self) -> int:
        """Number of samples and unreadable ends of shards skipped by the index and by the loaders of this process."""
        return sum(len(split.index.skipped) for split in self._splits.values()) + len(self._skipped)

    @property
    def batches_per_epoch(self) -> int:
        """Number of steps per rank for one pass over the training samples."""
        return batches_per_epoch(self._split("train").bucket_of, self.batch_size, self._world()[0])

    def train_dataloader(self) -> BatchLoader:
        """Return an endless loader that starts after the last processed batch."""
        self.start_batch = self._position()
        self._counted_by, self._processed_before = self.trainer, self._processed()
        split = self._split("train")
        if split.index.remote is not None:
            require_room_for_workers(split.index.remote, self._readers())
        loader = BatchLoader(self._source(split), self._order, workers=self.workers, skipped=self._skipped)
        self._training = weakref.ref(loader)
        return loader

    def val_dataloader(self) -> RepeatedBatchLoader | list[Any]:
        """Return a loader with the same number of validation batches on every rank, or [] if there are no samples."""
        if self._validation is None:
            split = self._split("validation")
            shard, bucket_of = (column[: self.validation_samples] for column in (split.index.shard, split.bucket_of))
            if not len(bucket_of):
                return []
            world_size, rank = self._world()
            requests = validation_batches(
                shard,
                bucket_of,
                batch_size=self.validation_batch_size,
                world_size=world_size,
                rank=rank,
                window=self.window,
            )
            self._validation = RepeatedBatchLoader(
                self._source(split), requests, workers=min(self.workers, len(requests)), skipped=self._skipped
            )
        return self._validation

    def teardown(self, stage: str | None = None) -> None:
        """Stop the workers. Lightning calls this at the end of a fit."""
        training = self._training() if self._training is not None else None
        for loader in (training, self._validation):
            if loader is not None:
                loader.close()

    @override
    def on_exception(self, exception: BaseException) -> None:
        self.teardown()

    def state_dict(self) -> dict[str, Any]:
        """Return the number of batches that each rank has processed, and the settings that determine the order."""
        batches = self._position()
        samples = batches * len(self.split("train")) // self.batches_per_epoch
        return {"batches": batches, "samples": samples, **self._order_settings()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume after the number of batches in ``state_dict``.

        Raises:
            RunError: Another data module saved the checkpoint, or a setting that determines the order of the data has
                changed and ``allow_changes`` is not set.
        """
        ranks = self._world()[0]
        changes = order_changes(self.path, state_dict, self._order_settings(), allow_changes=self.allow_changes)
        if not changes:
            self.start_batch = state_dict["batches"]
        elif set(changes) == {"world_size"} and divides_equally(
            self._split("train").bucket_of, self.batch_size, state_dict["batches"], (state_dict["world_size"], ranks)
        ):
            self.start_batch = state_dict["batches"] * state_dict["world_size"] // ranks
        else:
            epochs = state_dict["samples"] / len(self.split("train"))
            self.start_batch = round(epochs * self.batches_per_epoch)
            _LOG.warning("%s: resuming with different samples: %s", self.path, "; ".join(changes.values()))
        self._counted_by = None

    def _order(self) -> TrainingOrder:
        split, (world_size, rank) = self._split("train"), self._world()
        return TrainingOrder(
            split.index.shard,
            split.bucket_of,
            batch_size=self.batch_size,
            seed=self.seed,
            world_size=world_size,
            rank=rank,
            window=self.window,
            start=self._position(),
        )

    def _order_settings(self) -> dict[str, Any]:
        own = {key: getattr(self, key) for key in _ORDER_KEYS if key != "world_size"}
        # The versions of the order differ only if there are several windows.
        order = {"order": ORDER_VERSION} if len(self.split("train").shards) > self.window else {}
        return {**own, **order, "world_size": self._world()[0]}

    def _position(self) -> int:
        """Return the number of batches that this rank has processed since the start of training, across all resumes."""
        if self._counted_by is None or self._counted_by is not self.trainer:
            return self.start_batch
        return self.start_batch + self._processed() - self._processed_before

    def _processed(self) -> int:
        # Lightning counts a batch as processed after training_step and before on_train_batch_end, where checkpoints
        # are saved. It restores the count before it requests the loader.
        if self.trainer is None:
            return 0
        total = self.trainer.fit_loop.epoch_loop.batch_progress.total
        assert isinstance(total, _ProcessedTracker)
        return total.processed

    def _world(self) -> tuple[int, int]:
        return (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)

    def _split(self, name: str) -> BucketedSplit:
        self.setup()
        return self._splits[name]

    def _readers(self) -> int:
        """Return the number of this node's processes that read shards."""
        ranks = self.trainer.num_devices if self.trainer else 1
        return int(ranks) * max(1, 2 * self.workers)

    def _source(self, split: BucketedSplit) -> ShardBatches | StreamedBatches:
        batches, remote = self._batches(split), split.index.remote
        return batches if remote is None else StreamedBatches(batches, remote)

    def _batches(self, split: BucketedSplit) -> ShardBatches:
        is_training = split.index.folder.name == "train"
        return ShardBatches(
            split.info,
            split.index,
            split.buckets,
            split.bucket_of,
            seed=self.seed,
            caption=self.caption,
            crop=self.crop if is_training else "center",
            flip=self.flip and is_training,
        )
