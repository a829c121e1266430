"""What is in a data set, as text and as a picture."""

import textwrap
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from datamodules.shards.buckets import assign_buckets, exact_buckets
from datamodules.shards.decode import decode_latent, open_image
from datamodules.shards.index import SplitIndex, load_index
from datamodules.shards.latents import encode_sample
from datamodules.shards.reader import ShardReader
from datamodules.shards.schema import SPLITS, SampleError, parse_metadata, read_info
from pocketdit.encoders.contract import Autoencoder
from pocketdit.errors import UserError

_MOST_CAPTIONS = 2000
_MOST_SIZES = 8


def describe_dataset(path: Path, base_size: int = 128) -> str:
    """A table: samples, bytes, sizes, buckets of ``base_size`` and caption lengths of both splits.

    Raises:
        UserError: no such data set.
    """
    info = read_info(path)
    lines = [f"{path}: {info.kind} data set {info.name!r} from {info.source}, fingerprint {info.fingerprint}",
             "sizes and buckets are height x width, as sampling.size and --size take them"]  # fmt: skip
    for split in SPLITS:
        index = load_index(path, split, info.kind)
        lines += ["", f"{split}: {len(index)} samples, {len(index.shards)} shards, {_megabytes(index)}"]
        if index.skipped:
            lines.append(f"  not usable: {len(index.skipped)} ('lightning data validate' lists them)")
        if len(index):
            lines += _sizes(index) + _buckets(index, base_size) + _captions(index)
    return "\n".join(lines)


def latent_statistics(path: Path, autoencoder: Autoencoder, base_size: int = 128, count: int = 256) -> str:
    """Mean and standard deviation of each latent channel over ``count`` training samples, as YAML lists.

    The second is what ``backbone.latent_std`` of an experiment wants.

    Raises:
        UserError: no such data set, or no readable sample.
    """
    index = load_index(path, "train", read_info(path).kind)
    reader = ShardReader(index)
    total = squares = torch.zeros(autoencoder.channels, dtype=torch.float64)
    number = 0
    for row in _spread(len(index), count):
        try:
            sample = reader.sample(row)
            encoded = sample if index.kind == "latent" else encode_sample(sample, autoencoder, base_size)
            latent = decode_latent(encoded, None).double()
        except SampleError:
            continue
        total, squares = total + latent.sum((1, 2)), squares + latent.square().sum((1, 2))
        number += latent[0].numel()
    if not number:
        raise UserError(f"{path}: no readable sample in train")
    mean = total / number
    std = (squares / number - mean.square()).clamp_min(0).sqrt()
    lines = (f"{name}: [{', '.join(f'{value:.3g}' for value in values.tolist())}]"
             for name, values in (("latent_mean", mean), ("latent_std", std)))  # fmt: skip
    return "\n".join(lines)


def contact_sheet(path: Path, out: Path, *, split: str = "train", count: int = 24, columns: int = 6) -> Path:
    """Writes a picture of ``count`` samples spread over the split, each with its short caption.

    Raises:
        UserError: no such data set, no readable sample, or one of latents (which have no pixels to show).
    """
    info = read_info(path)
    if info.kind != "image":
        raise UserError(f"{path}: holds latents; a contact sheet needs a data set of images")
    index = load_index(path, split, info.kind)
    reader = ShardReader(index)
    tiles = [tile for row in _spread(len(index), count) if (tile := _tile(reader, row)) is not None]
    if not tiles:
        raise UserError(f"{path}: no readable sample in {split}")
    columns = min(columns, len(tiles))
    width, height = tiles[0].size
    sheet = Image.new("RGB", (columns * width, -(-len(tiles) // columns) * height), "white")
    for i, tile in enumerate(tiles):
        sheet.paste(tile, (i % columns * width, i // columns * height))
    out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(out)
    return out


def _megabytes(index: SplitIndex) -> str:
    total = sum((index.folder / shard).stat().st_size for shard in index.shards)
    return f"{total / 1e6:.1f} MB" if total >= 1e5 else f"{total / 1e3:.1f} kB"


def _sizes(index: SplitIndex) -> list[str]:
    counts = Counter(zip(index.width.tolist(), index.height.tolist(), strict=True))
    lines = [f"  size {height}x{width}: {count}" for (width, height), count in counts.most_common(_MOST_SIZES)]
    rest = len(counts) - _MOST_SIZES
    return [*lines, f"  and {rest} more sizes"] if rest > 0 else lines


def _buckets(index: SplitIndex, base_size: int) -> list[str]:
    if index.kind == "latent":
        buckets, bucket_of = exact_buckets(index.width, index.height)
    else:
        buckets, bucket_of = assign_buckets(index.width, index.height, base_size)
    counts = np.bincount(bucket_of, minlength=len(buckets))
    return [
        f"  bucket {bucket.height}x{bucket.width}: {count} ({100 * count / len(index):.1f} %)"
        for bucket, count in zip(buckets, counts.tolist(), strict=True)
        if count
    ]


def _captions(index: SplitIndex) -> list[str]:
    """Word counts, from at most ``_MOST_CAPTIONS`` samples spread over the split."""
    short: list[int] = []
    longer: list[int] = []
    numbers: list[int] = []
    reader = ShardReader(index)
    for row in _spread(len(index), _MOST_CAPTIONS):
        try:
            captions = parse_metadata(reader.members(row).members["json"])["captions"]
        except SampleError:
            continue
        words = [len(caption.split()) for caption in captions]
        numbers.append(len(words))
        short.append(words[0])
        longer += words[1:]
    lines = [
        f"  captions a sample: {_range(numbers)} (from {len(numbers)} samples)",
        f"  words of the first caption: {_range(short)}",
    ]
    return [*lines, f"  words of the others: {_range(longer)}"] if longer else lines


def _range(numbers: list[int]) -> str:
    if not numbers:
        return "none"
    return f"{min(numbers)} to {max(numbers)}, median {np.median(numbers):g}"


def _spread(total: int, count: int) -> list[int]:
    rows: list[int] = np.linspace(0, total - 1, min(count, total)).round().astype(int).tolist()
    return rows


def _tile(reader: ShardReader, row: int, side: int = 192, text_height: int = 64) -> Image.Image | None:
    try:
        sample = reader.sample(row)
        picture = open_image(sample).convert("RGB")
    except (SampleError, OSError):
        return None
    picture.thumbnail((side - 8, side - 8))
    tile = Image.new("RGB", (side, side + text_height), "white")
    tile.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    font = ImageFont.load_default(12)
    for i, line in enumerate(textwrap.wrap(sample.captions[0], 30)[:4]):
        ImageDraw.Draw(tile).text((6, side + 15 * i), line, fill="black", font=font)
    return tile
