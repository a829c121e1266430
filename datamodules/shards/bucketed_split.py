"""A split of a data set with the bucket of each sample."""

import numpy as np

from datamodules.shards.buckets import BucketShape, assign_buckets, exact_buckets
from datamodules.shards.index import SplitIndex
from datamodules.shards.schema import DatasetInfo
from pocketdit.errors import ConfigError


class BucketedSplit:
    """A split's index, and the bucket of each row.

    Args:
        info: The contents of dataset.json.
        index: The split's index.
        base_size: Base size of the buckets for images. Latents keep their size.
        shape: Shape of the buckets.

    Attributes:
        info: The contents of dataset.json.
        index: The split's index.
        buckets: The buckets.
        bucket_of: (N,) index of each row's bucket in ``buckets``.

    Raises:
        ConfigError: Square buckets are requested, but the data set stores latents that are not square.
    """

    def __init__(self, info: DatasetInfo, index: SplitIndex, base_size: int, shape: BucketShape) -> None:
        self.info, self.index = info, index
        if info.kind == "image":
            self.buckets, self.bucket_of = assign_buckets(index.width, index.height, base_size, shape)
            return
        if shape == "square" and np.any(index.width != index.height):
            raise ConfigError(
                f"buckets: {index.folder.parent} stores latents of other shapes than the square; build it again with "
                "--buckets square"
            )
        self.buckets, self.bucket_of = exact_buckets(index.width, index.height)
