"""Real images from a sharded data set or a folder, accessed by index."""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datamodules.shards.images import IMAGE_SUFFIXES
from datamodules.shards.schema import is_complete
from datamodules.shards.sources import list_folder, name_of
from evaluation.contract import ImageArray, open_image
from pocketdit.errors import UserError

# Names of the image grids that GenEval's and Stable Diffusion's scripts write next to the images.
_GRID = re.compile(r"grid([-_]?\d+)?", re.IGNORECASE)


@dataclass(frozen=True)
class ImageSource:
    """Images accessed by index.

    Attributes:
        name: Name of the data set and its split, or of the folder.
        fingerprint: Hash that changes when the images change.
        count: Number of images.
        read: Returns the image at an index below ``count``.
        left_out: Descriptions of the other files in the folder, with the reasons why they are left out.
    """

    name: str
    fingerprint: str
    count: int
    read: Callable[[int], ImageArray]
    left_out: tuple[str, ...] = ()


def open_source(path: Path, split: str = "train") -> ImageSource:
    """Open a sharded data set (a folder with dataset.json), or a folder that contains images at any depth.

    Hidden files, hidden folders and image grids (grid.png, grid-0001.png) in a folder of images are left out.

    Args:
        path: The folder.
        split: Split of the data set. Ignored for a folder of images.

    Raises:
        UserError: There are no images, or the data set contains latents.
    """
    if is_complete(path):
        return _open_shards(path, split)
    listing = list_folder(path)
    files = [file for file in listing.images if not _GRID.fullmatch(file.stem)]
    if not files:
        raise UserError(f"{path}: contains neither images ({', '.join(IMAGE_SUFFIXES)}) nor a sharded data set")
    states = [(str(file.relative_to(path)), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    digest = hashlib.sha256(json.dumps(states).encode()).hexdigest()[:16]
    grids = [f"{name_of(file, path)}: an image grid" for file in listing.images if _GRID.fullmatch(file.stem)]
    left_out = (*grids, *map(str, listing.skipped))
    return ImageSource(path.resolve().name, digest, len(files), lambda index: open_image(files[index]), left_out)


def _open_shards(path: Path, split: str) -> ImageSource:
    from datamodules.shards.decode import open_stored_image
    from datamodules.shards.opening import LocalDataset
    from datamodules.shards.reader import ShardReader
    from datamodules.shards.schema import SPLITS, SampleError, read_info

    info = read_info(path)
    if info.kind != "image":
        raise UserError(f"{path}: contains latents; reference statistics need a data set of images")
    if split not in SPLITS:
        raise UserError(f"{path}: no split {split!r}; choose from {', '.join(SPLITS)}")
    index = LocalDataset(path).load_index(split, info)
    if not len(index):
        raise UserError(f"{path}: its {split} split has no usable images; run 'lightning data validate'")
    reader = ShardReader(index)

    def read(row: int) -> ImageArray:
        try:
            return np.asarray(open_stored_image(reader.read_sample(row)))
        except SampleError as error:
            place = f"{path}: {index.shard_path(row)}"
            raise UserError(f"{place}: image cannot be read ({error}); run 'lightning data validate'") from error

    return ImageSource(f"{info.name}-{split}", f"{info.fingerprint}-{index.digest}", len(index), read)
