"""A split of a data set with the bucket of each sample, and the checks made when a data set is opened."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from datamodules.shards.buckets import BucketShape, assign_buckets, exact_buckets
from datamodules.shards.index import SplitIndex
from datamodules.shards.schema import DatasetInfo
from pocketdit.config.shell import command_line, operand
from pocketdit.errors import ConfigError

_LOG = logging.getLogger(__name__)
_MAX_LINES = 20


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
                f"data.init_args.buckets: is square, but {index.dataset} stores latents that are not square; set "
                "it to aspect, or encode the images again with --buckets square"
            )
        self.buckets, self.bucket_of = exact_buckets(index.width, index.height)


def require_settings_of_latents(
    path: Path | str,
    info: DatasetInfo,
    base_size: int,
    shape: BucketShape,
    crop: Literal["center", "random"],
    flip: bool,
) -> None:
    """Check that no setting of the data module would be ignored because the data set stores latents.

    Raises:
        ConfigError: Latents cannot be flipped or cropped at random, or were encoded at a different size.
    """
    if info.kind != "latent":
        return
    if flip:
        raise ConfigError(f"data.init_args.flip: {path} stores latents, which cannot be flipped; set it to false")
    if crop != "center":
        raise ConfigError(f"data.init_args.crop: {path} stores latents of center crops; set it to center")
    recorded = info.autoencoder or {}
    # Latents that were encoded with aspect buckets may all be square, so ``BucketedSplit`` checks square buckets.
    settings: dict[str, object] = {"base_size": base_size} | ({"buckets": shape} if shape == "aspect" else {})
    for name, value in settings.items():
        if recorded.get(name, value) != value:
            raise ConfigError(
                f"data.init_args.{name}: is {value}, but {path} stores latents with {name} {recorded[name]}; set it to "
                f"{recorded[name]}, or encode the images again with --{name.replace('_', '-')} {value}"
            )


def log_problems(path: Path | str, splits: Mapping[str, BucketedSplit]) -> None:
    """Log the samples that the indexes skip, and differences from dataset.json."""
    for name, split in splits.items():
        if disagreement := split.index.disagreement(split.info.samples[name]):
            _LOG.warning("%s: %s", path, disagreement)
    skipped = [entry for split in splits.values() for entry in split.index.skipped]
    for entry in skipped[:_MAX_LINES]:
        _LOG.warning("skipped %s", entry)
    if len(skipped) > _MAX_LINES:
        more = len(skipped) - _MAX_LINES
        _LOG.warning("skipped %d more; list all with: %s", more, command_line("data", "validate", operand(path)))
