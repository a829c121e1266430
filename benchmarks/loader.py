"""Measure the samples per second of three loaders: the data module, a plain webdataset loop, and litdata.

All three read the same samples, parse the JSON, decode the images with PIL into uint8 tensors, crop them to the same
buckets, and yield batches of one image size. A pass is timed from the start of the workers to the last sample.
webdataset and litdata read in stored order, whereas the data module shuffles. A first pass checks that all three yield
the same pixels.

    python benchmarks/loader.py [--json PATH]
"""

import importlib.util
import io
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import webdataset
from PIL import Image, ImageDraw
from torch import Tensor

from benchmarks.timing import (
    argument_parser,
    paired_ratio,
    print_machine,
    table,
    time_alternately,
    verdict,
    write_result,
)
from datamodules.scenes.captions import annotate_scene
from datamodules.scenes.render import render_scene
from datamodules.scenes.split import generate_scenes
from datamodules.shards.buckets import Bucket, bucket_list, cover_box, nearest_bucket
from datamodules.shards.module import ShardDataModule
from datamodules.shards.schema import IMAGE_EXTENSIONS, Sample, serialize_sample
from datamodules.shards.writer import DatasetWriter

BATCH_SIZE = 32
SHARDS = 12  # divides evenly among one or two workers
REQUIRED = 0.9
LARGE_SIZES = ((512, 384), (384, 512), (640, 400), (480, 480))
OURS, WEBDATASET, LITDATA = "data module", "webdataset", "litdata"

DecodedSample = tuple[Tensor, list[str]]
Batch = tuple[Tensor, list[str]]


class Data(NamedTuple):
    """A data set that is stored as shards and, unless ``chunks`` is None, also as litdata chunks."""

    name: str
    folder: Path
    chunks: Path | None
    base_size: int
    samples: int


def scene_samples(count: int) -> Iterator[Sample]:
    """Yield rendered scenes as PNGs that already have the size of their bucket."""
    for captioned in generate_scenes("train", count, seed=0):
        image = render_scene(captioned.scene)
        annotations = annotate_scene(captioned.scene, captioned.captions[0])
        yield encode_sample(captioned.id, image, tuple(captioned.captions), "png", annotations=annotations)


def large_samples(count: int) -> Iterator[Sample]:
    """Yield color gradients with noise and an ellipse, as JPEGs of several aspect ratios, larger than their buckets."""
    for number in range(count):
        random = np.random.default_rng(number)
        width, height = LARGE_SIZES[number % len(LARGE_SIZES)]
        corners = Image.fromarray(random.integers(0, 256, (2, 3, 3), dtype=np.uint8))
        pixels = np.asarray(corners.resize((width, height), Image.Resampling.BICUBIC), dtype=np.int16)
        noisy = np.clip(pixels + random.normal(0, 12, pixels.shape), 0, 255).astype(np.uint8)
        image = Image.fromarray(noisy)
        left, top = random.integers(0, (width // 2, height // 2)).tolist()
        color = "rgb({}, {}, {})".format(*random.integers(0, 256, 3))
        ImageDraw.Draw(image).ellipse((left, top, left + width // 3, top + height // 3), fill=color)
        yield encode_sample(str(number), image, (f"image {number}", f"a longer caption of image {number}"), "jpeg")


def encode_sample(key: str, image: Image.Image, captions: tuple[str, ...], extension: str, **fields: Any) -> Sample:
    file = io.BytesIO()
    image.save(file, format=extension, quality=90)
    return Sample(key, captions, image.width, image.height, file.getvalue(), extension, **fields)


def build_data(name: str, samples: Iterable[Sample], count: int, base_size: int, folder: Path) -> Data:
    """Write the samples as shards and, if litdata is installed, as the same number of chunks."""
    stored = list(samples)
    shard_size = -(-count // SHARDS)
    with DatasetWriter(
        folder / "shards", kind="image", name=name, source="benchmark", samples_per_shard=shard_size
    ) as writer:
        for sample in stored:
            writer.add("train", sample)
    chunks = None
    if importlib.util.find_spec("litdata") is not None:
        chunks = folder / "chunks"
        write_chunks(stored, chunks, shard_size)
    return Data(name, folder / "shards", chunks, base_size, count)


def write_chunks(samples: Sequence[Sample], out: Path, chunk_size: int) -> None:
    import litdata

    os.environ["DATA_OPTIMIZER_CACHE_FOLDER"] = str(out.parent / "cache")
    os.environ["DATA_OPTIMIZER_DATA_CACHE_FOLDER"] = str(out.parent / "cache-data")
    litdata.optimize(
        stored_members,
        list(samples),
        str(out),
        chunk_size=chunk_size,
        num_workers=1,
        verbose=False,
        start_method="fork",
    )


def stored_members(sample: Sample) -> dict[str, bytes]:
    """Return the bytes that a shard stores for a sample, under names that do not depend on the image format."""
    members = serialize_sample(sample)
    return {"json": members["json"], "image": members[sample.extension]}


def decode(metadata: bytes, payload: bytes, buckets: tuple[Bucket, ...]) -> DecodedSample:
    """Decode a sample to a tensor (3, H, W) as a plain loop would, with PIL's draft mode and a single resize."""
    data = json.loads(metadata)
    bucket = buckets[cached_nearest_bucket(data["width"], data["height"], buckets)]
    image = Image.open(io.BytesIO(payload))
    image.draft("RGB", bucket)
    rgb = image.convert("RGB")
    if rgb.size != bucket:
        box = cover_box(*rgb.size, bucket)
        rgb = rgb.resize(bucket, Image.Resampling.LANCZOS, box=box, reducing_gap=3.0)
    return torch.from_numpy(np.array(rgb)).permute(2, 0, 1).contiguous(), data["captions"]


@cache
def cached_nearest_bucket(width: int, height: int, buckets: tuple[Bucket, ...]) -> int:
    """Find the nearest bucket once per image size, as the data module does."""
    return nearest_bucket(width, height, buckets)


def group_by_size(samples: Iterable[DecodedSample]) -> Iterator[Batch]:
    """Yield a batch as soon as enough samples of one image size have arrived, and the incomplete batches at the end."""
    pending: dict[torch.Size, list[DecodedSample]] = {}
    for sample in samples:
        same = pending.setdefault(sample[0].shape, [])
        same.append(sample)
        if len(same) == BATCH_SIZE:
            yield collate(pending.pop(sample[0].shape))
    for same in pending.values():
        yield collate(same)


def collate(samples: Sequence[DecodedSample]) -> Batch:
    return torch.stack([image for image, _ in samples]), [captions[0] for _, captions in samples]


def load_with_data_module(data: Data, workers: int) -> Iterator[Tensor]:
    module = ShardDataModule(str(data.folder), BATCH_SIZE, data.base_size, workers=workers)
    loader = module.train_dataloader()
    try:
        for batch in islice(loader, module.batches_per_epoch):
            yield batch["images"]
    finally:
        loader.close()


def load_with_webdataset(data: Data, workers: int) -> Iterator[Tensor]:
    shards = [str(path) for path in sorted((data.folder / "train").glob("*.tar"))]
    extensions = ";".join(IMAGE_EXTENSIONS)
    dataset = webdataset.WebDataset(shards, shardshuffle=False, empty_check=False).to_tuple("json", extensions)
    dataset = dataset.map(partial(decode_pair, buckets=bucket_list(data.base_size))).compose(group_by_size)
    for images, _ in webdataset.WebLoader(dataset, batch_size=None, num_workers=workers):
        yield images


def decode_pair(pair: tuple[bytes, bytes], buckets: tuple[Bucket, ...]) -> DecodedSample:
    return decode(*pair, buckets)


def load_with_litdata(data: Data, workers: int) -> Iterator[Tensor]:
    """Load with litdata in stored order, and split each of its batches by image size."""
    import litdata

    dataset = litdata.StreamingDataset(str(data.chunks), shuffle=False, drop_last=False)
    collate_fn = partial(decode_and_collate, buckets=bucket_list(data.base_size))
    for batch in litdata.StreamingDataLoader(
        dataset, batch_size=BATCH_SIZE, num_workers=workers, collate_fn=collate_fn
    ):
        for images, _ in batch:
            yield images


def decode_and_collate(stored: Sequence[dict[str, bytes]], buckets: tuple[Bucket, ...]) -> list[Batch]:
    return list(group_by_size(decode(sample["json"], sample["image"], buckets) for sample in stored))


Loader = Callable[[Data, int], Iterator[Tensor]]


def loaders(data: Data) -> dict[str, Loader]:
    """Return a mapping from name to each installed loader."""
    installed: dict[str, Loader] = {OURS: load_with_data_module, WEBDATASET: load_with_webdataset}
    if data.chunks is not None:
        installed[LITDATA] = load_with_litdata
    return installed


def time_pass(load: Loader, data: Data, workers: int) -> float:
    """Return how many seconds pass from the start to the last sample, excluding the workers' shutdown."""
    start, end, samples = time.perf_counter(), 0.0, 0
    for images in load(data, workers):
        samples += len(images)
        end = time.perf_counter()
    if samples != data.samples:
        raise RuntimeError(f"loaded {samples} of {data.samples} samples")
    return end - start


def check_same_pixels(data: Data) -> None:
    """Raise ``RuntimeError`` if the loaders yield images with different pixel sums."""
    sums = {name: sum(int(images.sum()) for images in load(data, 0)) for name, load in loaders(data).items()}
    if len(set(sums.values())) > 1:
        raise RuntimeError(f"{data.name}: the loaders yield different pixels; their sums are {sums}")


def compare(data: Data, workers: int, rounds: int) -> dict[str, Any]:
    """Time all loaders alternately."""
    calls = {name: partial(time_pass, load, data, workers) for name, load in loaders(data).items()}
    seconds = time_alternately(calls, rounds, measure=lambda call, _: call())
    return {
        "data": data.name,
        "workers": workers,
        "samples_per_second": {name: data.samples / sorted(s)[len(s) // 2] for name, s in seconds.items()},
        "seconds": seconds,
        "over_webdataset": paired_ratio(seconds[WEBDATASET], seconds[OURS]),
        "over_litdata": paired_ratio(seconds[LITDATA], seconds[OURS]) if LITDATA in seconds else None,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    args = argument_parser(__doc__).parse_args(arguments)
    print_machine()
    small, large, rounds = (48, 24, 1) if args.quick else (3000, 300, 3)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        datasets = [
            build_data("scenes, 128", scene_samples(small), small, 128, folder / "scenes"),
            build_data("images, 256", large_samples(large), large, 256, folder / "images"),
        ]
        if datasets[0].chunks is None:
            print("litdata is not installed and will be skipped; install it with: pip install 'pocketdit[bench]'")
        for data in datasets:
            check_same_pixels(data)
            rows += [compare(data, workers, rounds) for workers in ((0,) if args.quick else (0, 1, 2))]

    print(f"samples per second, batches of {BATCH_SIZE}\n")
    names = list(rows[0]["samples_per_second"])
    cells = [
        [
            row["data"],
            row["workers"],
            *(f"{row['samples_per_second'][name]:,.0f}" for name in names),
            row["over_webdataset"],
            row["over_litdata"] or "-",
        ]
        for row in rows
    ]
    print(table(["data", "workers", *names, "ours / webdataset", "ours / litdata"], cells), end="\n\n")
    worst = min(rows, key=lambda row: row["over_webdataset"].median)
    met = worst["over_webdataset"].median >= REQUIRED
    print(
        f"ratio: data module / webdataset = {worst['over_webdataset']} in the worst case ({worst['data']}, "
        f"{worst['workers']} workers; at least {REQUIRED}): {verdict(met)}"
    )
    write_result(
        {"benchmark": "loader", "rows": rows, "ratio": worst["over_webdataset"], "required": REQUIRED, "met": met},
        args.json,
    )


if __name__ == "__main__":
    main()
