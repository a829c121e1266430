"""Samples per second from shards, decoded and bucketed: the data module, a bare webdataset loop, and litdata.

All three read the same samples, decode with PIL to uint8 tensors, parse the JSON, cut to the same buckets and
give batches of one size; one pass is timed from the start of the workers to the last sample. webdataset and litdata
read in stored order, the data module in its shuffled one. A first pass checks that all three give the same pixels.

    python benchmarks/loader.py [--json PATH]
"""

import importlib.util
import io
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import webdataset
from PIL import Image, ImageDraw
from torch import Tensor

from benchmarks.timing import argument_parser, paired_ratio, print_machine, table, time_alternately, write_result
from datamodules.scenes.captions import annotate_scene
from datamodules.scenes.render import render_scene
from datamodules.scenes.split import generate_scenes
from datamodules.shards.buckets import Bucket, bucket_list, cover_box, nearest_bucket
from datamodules.shards.module import ShardDataModule
from datamodules.shards.schema import IMAGE_EXTENSIONS, Sample, serialize_sample
from datamodules.shards.writer import DatasetWriter

BATCH = 32
SHARDS = 12  # shared out evenly to the workers
REQUIRED = 0.9
LARGE = ((512, 384), (384, 512), (640, 400), (480, 480))
OURS, BARE, LIT = "data module", "webdataset", "litdata"

Decoded = tuple[Tensor, list[str]]


class Data(NamedTuple):
    """A data set in shards, and the same samples as litdata's chunks (None without litdata)."""

    name: str
    folder: Path
    chunks: Path | None
    base_size: int
    samples: int


def scene_samples(count: int) -> Iterator[Sample]:
    """The embedded scenes, as PNG of their bucket's size."""
    for captioned in generate_scenes("train", count, seed=0):
        picture = render_scene(captioned.scene)
        notes = annotate_scene(captioned.scene, captioned.captions[0])
        yield encoded(captioned.id, picture, tuple(captioned.captions), "png", annotations=notes)


def large_samples(count: int) -> Iterator[Sample]:
    """Gradients, noise and shapes as JPEG, larger than their bucket and of several aspect ratios."""
    for number in range(count):
        random = np.random.default_rng(number)
        width, height = LARGE[number % len(LARGE)]
        corners = Image.fromarray(random.integers(0, 256, (2, 3, 3), dtype=np.uint8))
        pixels = np.asarray(corners.resize((width, height), Image.Resampling.BICUBIC), dtype=np.int16)
        noisy = np.clip(pixels + random.normal(0, 12, pixels.shape), 0, 255).astype(np.uint8)
        picture = Image.fromarray(noisy)
        left, top = random.integers(0, (width // 2, height // 2)).tolist()
        color = "rgb({}, {}, {})".format(*random.integers(0, 256, 3))
        ImageDraw.Draw(picture).ellipse((left, top, left + width // 3, top + height // 3), fill=color)
        yield encoded(str(number), picture, (f"picture {number}", f"a longer caption of picture {number}"), "jpeg")


def encoded(key: str, picture: Image.Image, captions: tuple[str, ...], extension: str, **more: Any) -> Sample:
    file = io.BytesIO()
    picture.save(file, format=extension, quality=90)
    return Sample(key, captions, picture.width, picture.height, file.getvalue(), extension, **more)


def build(name: str, samples: Iterable[Sample], count: int, base_size: int, folder: Path) -> Data:
    """Write the samples as shards, and as chunks of the same number where litdata is installed."""
    stored = list(samples)
    shard = -(-count // SHARDS)
    with DatasetWriter(folder / "shards", kind="image", name=name, source="drawn", samples_per_shard=shard) as writer:
        for sample in stored:
            writer.add("train", sample)
    chunks = None
    if importlib.util.find_spec("litdata") is not None:
        chunks = folder / "chunks"
        write_chunks(stored, chunks, shard)
    return Data(name, folder / "shards", chunks, base_size, count)


def write_chunks(samples: Sequence[Sample], out: Path, chunk_size: int) -> None:
    import litdata

    os.environ["DATA_OPTIMIZER_CACHE_FOLDER"] = str(out.parent / "cache")
    os.environ["DATA_OPTIMIZER_DATA_CACHE_FOLDER"] = str(out.parent / "cache-data")
    litdata.optimize(
        as_stored, list(samples), str(out), chunk_size=chunk_size, num_workers=1, verbose=False, start_method="fork"
    )


def as_stored(sample: Sample) -> dict[str, bytes]:
    """The bytes that a shard holds, under names that do not depend on the format."""
    members = serialize_sample(sample)
    return {"json": members["json"], "image": members[sample.extension]}


def decode(metadata: bytes, payload: bytes, buckets: tuple[Bucket, ...]) -> Decoded:
    """What a loop without a data module would write: PIL's draft, one resize, a tensor (3, H, W), the captions."""
    data = json.loads(metadata)
    bucket = buckets[nearest(data["width"], data["height"], buckets)]
    image = Image.open(io.BytesIO(payload))
    image.draft("RGB", bucket)
    picture = image.convert("RGB")
    if picture.size != bucket:
        box = cover_box(*picture.size, bucket)
        picture = picture.resize(bucket, Image.Resampling.LANCZOS, box=box, reducing_gap=3.0)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous(), data["captions"]


_known: dict[tuple[int, int, tuple[Bucket, ...]], int] = {}


def nearest(width: int, height: int, buckets: tuple[Bucket, ...]) -> int:
    """Looked up once for every size, as the data module does before it starts."""
    key = (width, height, buckets)
    if key not in _known:
        _known[key] = nearest_bucket(width, height, buckets)
    return _known[key]


def by_size(samples: Iterable[Decoded]) -> Iterator[tuple[Tensor, list[str]]]:
    """Batches of one size, in the order in which they fill; what is left comes last."""
    waiting: dict[torch.Size, list[Decoded]] = {}
    for sample in samples:
        same = waiting.setdefault(sample[0].shape, [])
        same.append(sample)
        if len(same) == BATCH:
            yield stacked(waiting.pop(sample[0].shape))
    for same in waiting.values():
        yield stacked(same)


def stacked(samples: Sequence[Decoded]) -> tuple[Tensor, list[str]]:
    return torch.stack([image for image, _ in samples]), [captions[0] for _, captions in samples]


def from_data_module(data: Data, workers: int) -> Iterator[Tensor]:
    module = ShardDataModule(str(data.folder), BATCH, data.base_size, workers=workers)
    loader = module.train_dataloader()
    try:
        for batch in islice(loader, module.batches_per_epoch):
            yield batch["images"]
    finally:
        loader.close()


def from_webdataset(data: Data, workers: int) -> Iterator[Tensor]:
    shards = [str(path) for path in sorted((data.folder / "train").glob("*.tar"))]
    extensions = ";".join(IMAGE_EXTENSIONS)
    dataset = webdataset.WebDataset(shards, shardshuffle=False, empty_check=False).to_tuple("json", extensions)
    dataset = dataset.map(partial(decode_pair, buckets=bucket_list(data.base_size))).compose(by_size)
    for images, _ in webdataset.WebLoader(dataset, batch_size=None, num_workers=workers):
        yield images


def decode_pair(pair: tuple[bytes, bytes], buckets: tuple[Bucket, ...]) -> Decoded:
    return decode(*pair, buckets)


def from_litdata(data: Data, workers: int) -> Iterator[Tensor]:
    """Its loader batches in stored order, so a batch of 32 comes as one tensor for each size in it."""
    import litdata

    dataset = litdata.StreamingDataset(str(data.chunks), shuffle=False, drop_last=False)
    collate = partial(decode_and_stack, buckets=bucket_list(data.base_size))
    for batch in litdata.StreamingDataLoader(dataset, batch_size=BATCH, num_workers=workers, collate_fn=collate):
        for images, _ in batch:
            yield images


def decode_and_stack(stored: Sequence[dict[str, bytes]], buckets: tuple[Bucket, ...]) -> list[tuple[Tensor, list[str]]]:
    return list(by_size(decode(sample["json"], sample["image"], buckets) for sample in stored))


Loader = Callable[[Data, int], Iterator[Tensor]]


def loaders(data: Data) -> dict[str, Loader]:
    found: dict[str, Loader] = {OURS: from_data_module, BARE: from_webdataset}
    if data.chunks is not None:
        found[LIT] = from_litdata
    return found


def one_pass(load: Loader, data: Data, workers: int) -> float:
    """Seconds from the start to the last of all samples; what the workers do after it is not counted."""
    began, ended, seen = time.perf_counter(), 0.0, 0
    for images in load(data, workers):
        seen += len(images)
        ended = time.perf_counter()
    if seen != data.samples:
        raise RuntimeError(f"{seen} samples of {data.samples}")
    return ended - began


def check_same_pixels(data: Data) -> None:
    sums = {name: sum(int(images.sum()) for images in load(data, 0)) for name, load in loaders(data).items()}
    if len(set(sums.values())) > 1:
        raise RuntimeError(f"{data.name}: the loaders give different pixels, of sums {sums}")


def compare(data: Data, workers: int, rounds: int) -> dict[str, Any]:
    calls = {name: partial(one_pass, load, data, workers) for name, load in loaders(data).items()}
    seconds = time_alternately(calls, rounds, measure=lambda call, _: call())
    return {
        "data": data.name,
        "workers": workers,
        "samples_per_second": {name: data.samples / sorted(s)[len(s) // 2] for name, s in seconds.items()},
        "seconds": seconds,
        "over_webdataset": paired_ratio(seconds[BARE], seconds[OURS]),
        "over_litdata": paired_ratio(seconds[LIT], seconds[OURS]) if LIT in seconds else None,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    chosen = argument_parser(__doc__).parse_args(arguments)
    print_machine()
    small, large, rounds = (48, 24, 1) if chosen.quick else (3000, 300, 3)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        sets = [
            build("scenes, 128", scene_samples(small), small, 128, folder / "scenes"),
            build("pictures, 256", large_samples(large), large, 256, folder / "pictures"),
        ]
        if sets[0].chunks is None:
            print("litdata is not installed, so it is left out: pip install 'pocketdit[bench]'")
        for data in sets:
            check_same_pixels(data)
            rows += [compare(data, workers, rounds) for workers in ((0,) if chosen.quick else (0, 1, 2))]

    print(f"samples a second, batches of {BATCH}\n")
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
        f"ratio: data module / webdataset = {worst['over_webdataset']} at the least ({worst['data']}, "
        f"{worst['workers']} workers), required {REQUIRED}: {'met' if met else 'NOT met'}"
    )
    write_result(
        {"benchmark": "loader", "rows": rows, "ratio": worst["over_webdataset"], "required": REQUIRED, "met": met},
        chosen.json,
    )


if __name__ == "__main__":
    main()
