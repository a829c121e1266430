"""The job that ``lightning data encode`` carries out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from datamodules.shards.buckets import BucketShape
from datamodules.shards.schema import Split
from datamodules.shards.text_layout import Group
from pocketdit.config.component import Component

StoredType = Literal["bfloat16", "float32"]


@dataclass(frozen=True)
class EncodeJob:
    """The images to encode, the encoders, and where to store the results.

    Attributes:
        source: Data set of images.
        out: Folder of the encoded data set or, for several base sizes, the folder that contains a data set for each.
        autoencoder: Configuration of the autoencoder.
        text_encoders: Configurations of the text encoders in each group.
        base_sizes: Base sizes of the buckets to which images are cropped.
        buckets: Shape of these buckets.
        dtype: Data type in which latents and embeddings are stored.
        batch_size: Maximum number of images or captions that are encoded together. It is part of the job because it may
            affect the least significant bits of the results.
        workers: Number of threads that decode images in each process.
    """

    source: Path
    out: Path
    autoencoder: Component
    text_encoders: dict[Group, tuple[Component, ...]]
    base_sizes: tuple[int, ...]
    buckets: BucketShape = "aspect"
    dtype: StoredType = "bfloat16"
    batch_size: int = 32
    workers: int = 4

    def folder(self, base_size: int) -> Path:
        """Return the folder of the data set that is encoded at a base size."""
        return self.out if len(self.base_sizes) == 1 else self.out / str(base_size)


class Task(NamedTuple):
    """A shard of the source, and the base sizes at which it has not been encoded yet.

    Attributes:
        split: The split.
        shard: Number of the shard in the split's index.
        base_sizes: The missing base sizes.
    """

    split: Split
    shard: int
    base_sizes: tuple[int, ...]
