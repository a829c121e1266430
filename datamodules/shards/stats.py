"""Describes data sets with tables of sizes, buckets, and captions, statistics of latents, and contact sheets."""

import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from tabulate import tabulate

from datamodules.shards.buckets import BucketShape, assign_buckets, exact_buckets
from datamodules.shards.decode import decode_latent, open_stored_image
from datamodules.shards.index import SplitIndex
from datamodules.shards.latents import describe_autoencoder, encode_sample
from datamodules.shards.losses import MAX_CROP, MAX_ENLARGEMENT, CropLosses
from datamodules.shards.opening import LocalDataset
from datamodules.shards.reader import ShardReader, read_captions
from datamodules.shards.schema import SPLITS, DatasetInfo, SampleError, read_info
from pocketdit.config.shell import command_line, operand
from pocketdit.encoders.contract import Autoencoder, TextEncoder
from pocketdit.encoders.coverage import CaptionCoverage, coverage_lines
from pocketdit.encoders.dct import DCTAutoencoder
from pocketdit.encoders.identity import require_same
from pocketdit.errors import UserError

_MAX_CAPTIONS = 2000
_MAX_SIZES = 8


def describe_dataset(
    path: Path,
    base_size: int = 128,
    buckets: BucketShape = "aspect",
    *,
    max_crop: float = MAX_CROP,
    max_enlargement: float = MAX_ENLARGEMENT,
    text_encoders: Sequence[TextEncoder] = (),
) -> str:
    """Describe the number of samples, image sizes, buckets, cropping losses, and captions of both splits.

    Args:
        path: Folder of the data set.
        base_size: Base size of the buckets for images. It does not apply to latents, which keep their size.
        buckets: Shape of the buckets.
        max_crop: Count the images that lose more than this share of their area to cropping.
        max_enlargement: Count the images that are scaled up by more than this factor.
        text_encoders: Text encoders. The description includes how many captions each of them does not see in full.

    Raises:
        UserError: The data set does not exist or is incomplete.
    """
    info = read_info(path)
    paragraphs = [
        f"{path}: {info.kind} data set {info.name!r} from {info.source}, fingerprint {info.fingerprint}\n"
        "Sizes and buckets are height x width, as in sampling.size and --size."
    ]
    if info.kind == "latent":
        paragraphs.append(_describe_encoders(info))
    if info.attribution:
        paragraphs.append(f"License and attribution: {info.attribution}")
    if isinstance(info.imported, dict):
        paragraphs.append(_describe_import(info.imported))
    coverages, is_complete = dict[str, CaptionCoverage](), True
    for split in SPLITS:
        index = LocalDataset(path).load_index(split, info)
        shards = "1 shard" if len(index.shards) == 1 else f"{len(index.shards)} shards"
        summary = f"{split}: {len(index)} samples, {shards}, {_format_bytes(index)}"
        if disagreement := index.disagreement(info.samples[split]):
            summary += f"; dataset.json differs ({disagreement})"
        if index.skipped:
            command = command_line("data", "validate", operand(path))
            summary += f", {len(index.skipped)} unusable (list them with: {command})"
        paragraphs.append(summary)
        if len(index):
            paragraphs += [_size_table(index), _bucket_table(index, base_size, buckets)]
            if info.kind == "image":
                paragraphs.append(_describe_losses(index, CropLosses(base_size, buckets, max_crop, max_enlargement)))
            coverages[split] = CaptionCoverage(text_encoders)
            paragraphs.append(_caption_table(index, coverages[split]))
            is_complete = is_complete and (split != "train" or len(index) <= _MAX_CAPTIONS)
    return "\n\n".join([*paragraphs, *coverage_lines(coverages, complete=is_complete)])


def latent_statistics(
    path: Path, autoencoder: Autoencoder, base_size: int = 128, buckets: BucketShape = "aspect", count: int = 256
) -> str:
    """Return the mean and standard deviation of each latent channel over training samples, as YAML lists.

    The last line contains overrides that adapt an experiment to these images: ``backbone.latent_std`` and, unless the
    data set contains latents, the center of a DCT autoencoder.

    Args:
        path: Folder of the data set.
        autoencoder: Autoencoder that encodes the samples if they are images.
        base_size: Base size of the buckets to which images are cropped.
        buckets: Shape of these buckets.
        count: Number of samples to use.

    Raises:
        UserError: The data set does not exist or has no readable training sample.
    """
    info = read_info(path)
    index = LocalDataset(path).load_index("train", info)
    reader = ShardReader(index)
    if info.kind == "latent":
        require_same(info.autoencoder or {}, autoencoder)
    described = info.autoencoder or describe_autoencoder(autoencoder, base_size)
    total = total_of_squares = torch.zeros(autoencoder.channels, dtype=torch.float64)
    positions = 0
    for row in _evenly_spaced(len(index), count):
        try:
            sample = reader.read_sample(row)
            encoded = sample if index.kind == "latent" else encode_sample(sample, autoencoder, base_size, buckets)
            latent = decode_latent(encoded, described).double()
        except SampleError:
            continue
        total, total_of_squares = total + latent.sum((1, 2)), total_of_squares + latent.square().sum((1, 2))
        positions += latent[0].numel()
    if not positions:
        raise UserError(f"{path}: no readable sample in train")
    mean = total / positions
    std = (total_of_squares / positions - mean.square()).clamp_min(0).sqrt()
    means, deviations = (", ".join(f"{value:.3g}" for value in values) for values in (mean, std))
    overrides = f'"backbone.latent_std=[{deviations.replace(" ", "")}]"'
    if isinstance(autoencoder, DCTAutoencoder) and info.kind == "image":
        overrides = f"autoencoder.init_args.center={autoencoder.centered(float(mean[0])):.3g} {overrides}"
    return f"latent_mean: [{means}]\nlatent_std: [{deviations}]\nsettings for these images: {overrides}"


def contact_sheet(path: Path, out: Path, *, split: str = "train", count: int = 24, columns: int = 6) -> Path:
    """Write an image of evenly spaced samples of a split with their short captions.

    Raises:
        UserError: The data set does not exist, has no readable sample, or contains latents.
    """
    info = read_info(path)
    if info.kind != "image":
        raise UserError(f"{path}: contains latents; a contact sheet requires images")
    index = LocalDataset(path).load_index(split, info)
    reader = ShardReader(index)
    tiles = [tile for row in _evenly_spaced(len(index), count) if (tile := _render_tile(reader, row)) is not None]
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


def _describe_encoders(info: DatasetInfo) -> str:
    """Tabulate which encoders computed the latents and the text embeddings, and the type in which they are stored."""
    roles = {
        "latents": [info.autoencoder or {}],
        "text embeddings": info.text_encoders,
        "text embeddings for a teacher": info.teacher_text_encoders,
    }
    rows = [
        (role, str(encoder.get("class", "unknown")).rpartition(".")[2], encoder.get("stored_dtype", "unknown"))
        for role, encoders in roles.items()
        for encoder in encoders
    ]
    return tabulate(rows, ["stored", "encoder", "type"])


def _describe_import(imported: Mapping[str, Any]) -> str:
    """Describe the source of imported images, and tabulate how many images each filter and problem left out."""
    counts, images = imported.get("left_out"), imported.get("images")
    left_out = {rule: n for rule, n in counts.items() if isinstance(n, int)} if isinstance(counts, dict) else {}
    rows = [("used", images - sum(left_out.values()))] if isinstance(images, int) else []
    rows += left_out.items()
    return f"imported from {imported.get('layout')}\n\n{tabulate(rows, ['images of the source', 'number'])}"


def _format_bytes(index: SplitIndex) -> str:
    if index.remote is None:
        paths = (index.file_of(shard) for shard in range(len(index.shards)))
        total = sum(path.stat().st_size for path in paths if path.is_file())
    else:
        total = sum(file.size for file in index.remote.files)
    return f"{total / 1e6:.1f} MB" if total >= 1e5 else f"{total / 1e3:.1f} kB"


def _size_table(index: SplitIndex) -> str:
    counts = Counter(zip(index.width.tolist(), index.height.tolist(), strict=True))
    rows: list[tuple[str, int]] = [
        (f"{height}x{width}", count) for (width, height), count in counts.most_common(_MAX_SIZES)
    ]
    if len(counts) > _MAX_SIZES:
        others = len(index) - sum(count for _, count in rows)
        rows.append((f"{len(counts) - _MAX_SIZES} other sizes", others))
    return tabulate(rows, ["size", "samples"])


def _describe_losses(index: SplitIndex, losses: CropLosses) -> str:
    """Describe the losses from cropping and scaling, with the IDs of samples that have the largest losses."""
    reader = ShardReader(index)
    sizes = np.stack([index.width, index.height], axis=1)
    distinct, rows, counts = np.unique(sizes, axis=0, return_index=True, return_counts=True)
    for (width, height), row, count in zip(distinct.tolist(), rows.tolist(), counts.tolist(), strict=True):
        losses.add(width, height, str(row), count)

    def name_of(row: str) -> str:
        try:
            return reader.read_sample(int(row)).id
        except SampleError:
            return f"sample {row}"

    return losses.describe(name_of)


def _bucket_table(index: SplitIndex, base_size: int, shape: BucketShape) -> str:
    if index.kind == "latent":
        buckets, bucket_of = exact_buckets(index.width, index.height)
    else:
        buckets, bucket_of = assign_buckets(index.width, index.height, base_size, shape)
    counts = np.bincount(bucket_of, minlength=len(buckets)).tolist()
    rows = [
        (f"{bucket.height}x{bucket.width}", count, f"{100 * count / len(index):.1f}%")
        for bucket, count in zip(buckets, counts, strict=True)
        if count
    ]
    return tabulate(rows, ["bucket", "samples", "share"], colalign=("left", "right", "right"))


def _caption_table(index: SplitIndex, coverage: CaptionCoverage) -> str:
    """Tabulate the number and length of captions of up to ``_MAX_CAPTIONS`` samples, and add them to ``coverage``."""
    first: list[int] = []
    others: list[int] = []
    numbers: list[int] = []
    for captions in read_captions(index, _MAX_CAPTIONS):
        coverage.add(captions)
        lengths = [len(caption.split()) for caption in captions]
        numbers.append(len(lengths))
        first.append(lengths[0])
        others += lengths[1:]
    quantities = {
        "captions per sample": numbers,
        "words in the first caption": first,
        "words in the other captions": others,
    }
    rows = [(name, min(values), np.median(values), max(values)) for name, values in quantities.items() if values]
    return tabulate(rows, [f"captions of {len(numbers)} samples", "min", "median", "max"])


def _evenly_spaced(total: int, count: int) -> list[int]:
    rows: list[int] = np.linspace(0, total - 1, min(count, total)).round().astype(int).tolist()
    return rows


def _render_tile(reader: ShardReader, row: int, side: int = 192, text_height: int = 64) -> Image.Image | None:
    try:
        sample = reader.read_sample(row)
        image = open_stored_image(sample)
    except SampleError:
        return None
    image.thumbnail((side - 8, side - 8))
    tile = Image.new("RGB", (side, side + text_height), "white")
    tile.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    font = ImageFont.load_default(12)
    for i, line in enumerate(textwrap.wrap(sample.captions[0], 30)[:4]):
        ImageDraw.Draw(tile).text((6, side + 15 * i), line, fill="black", font=font)
    return tile
