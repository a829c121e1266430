"""Data sets and loaders for the streaming benchmark."""

import http.client
import importlib.util
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import safetensors.numpy
import torch
import webdataset
from PIL import Image
from safetensors.torch import load
from torch import Tensor

from benchmarks.storage_server import ACCESS_KEY, SECRET_KEY
from datamodules.shards.module import ShardDataModule
from datamodules.shards.schema import LATENT_EXTENSION, Sample, serialize_sample
from datamodules.shards.writer import DatasetWriter

BATCH_SIZE = 8
WINDOW = 4
WORKERS = 1
CONNECTIONS = 4  # for the plain download, as many as the data module uses
SAMPLES_PER_SHARD = 25


def latent_samples(count: int) -> Iterator[Sample]:
    """Yield random latents with the size of a 1024x1024-pixel image's latents (0.5 MB each)."""
    for number in range(count):
        latent = np.random.default_rng(number).standard_normal((16, 128, 128)).astype(np.float16)
        payload = safetensors.numpy.save({"latent": latent})
        yield Sample(str(number), (f"image {number}",), 1024, 1024, payload, LATENT_EXTENSION)


def image_samples(count: int) -> Iterator[Sample]:
    """Yield JPEG images of 1024x1024 pixels that contain noise with the 1/f spectrum of photographs."""
    frequency = np.hypot(np.fft.fftfreq(1024)[:, None], np.fft.rfftfreq(1024))
    frequency[0, 0] = np.inf
    for number in range(count):
        noise = np.random.default_rng(number).standard_normal((3, 1024, 1024))
        channels = np.fft.irfft2(np.fft.rfft2(noise) / frequency)
        pixels = (128 + 50 * channels / channels.std()).clip(0, 255).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels.transpose(1, 2, 0)).save(file, "jpeg", quality=90)
        yield Sample(str(number), (f"image {number}",), 1024, 1024, file.getvalue(), "jpg")


def write_latents(folder: Path, samples: Iterable[Sample]) -> None:
    """Write latents as a data set."""
    description = {"class": "benchmark", "factor": 8, "channels": 16}
    with DatasetWriter(
        folder,
        kind="latent",
        name="latents",
        source="benchmark",
        autoencoder=description,
        samples_per_shard=SAMPLES_PER_SHARD,
    ) as writer:
        for sample in samples:
            writer.add("train", sample)


def write_images(folder: Path, samples: Iterable[Sample]) -> None:
    """Write images as a data set."""
    with DatasetWriter(
        folder, kind="image", name="images", source="benchmark", samples_per_shard=SAMPLES_PER_SHARD
    ) as writer:
        for sample in samples:
            writer.add("train", sample)


def write_chunks(folder: Path, samples: Sequence[Sample]) -> bool:
    """Write samples as litdata chunks if litdata is installed, and return whether it is."""
    if importlib.util.find_spec("litdata") is None:
        return False
    import litdata

    os.environ["DATA_OPTIMIZER_CACHE_FOLDER"] = f"{folder}-cache"
    os.environ["DATA_OPTIMIZER_DATA_CACHE_FOLDER"] = f"{folder}-data"
    litdata.optimize(
        _stored_members,
        list(samples),
        str(folder),
        chunk_size=SAMPLES_PER_SHARD,
        num_workers=1,
        verbose=False,
        start_method="fork",
    )
    return True


def _stored_members(sample: Sample) -> dict[str, bytes]:
    members = serialize_sample(sample)
    return {"json": members["json"], "latent": members[LATENT_EXTENSION]}


def load_with_data_module(path: str) -> Iterator[Tensor]:
    module = ShardDataModule(path, BATCH_SIZE, 1024, workers=WORKERS, window=WINDOW)
    loader = module.train_dataloader()
    try:
        for batch in islice(loader, module.batches_per_epoch):
            yield batch["latents" if module.info.kind == "latent" else "images"]
    finally:
        loader.close()


def load_with_webdataset(urls: Sequence[str]) -> Iterator[Tensor]:
    dataset = webdataset.WebDataset(list(urls), shardshuffle=False, empty_check=False).to_tuple(LATENT_EXTENSION)
    dataset = dataset.map(_decode_tuple).batched(BATCH_SIZE, collation_fn=torch.stack)
    yield from webdataset.WebLoader(dataset, batch_size=None, num_workers=WORKERS)


def _decode_tuple(members: tuple[bytes]) -> Tensor:
    return _decode(members[0])


def _decode(payload: bytes) -> Tensor:
    latent: Tensor = load(payload)["latent"].float()
    return latent


def load_with_litdata(path: str, endpoint: str, cache: Path) -> Iterator[Tensor]:
    import litdata
    from litdata.streaming import downloader

    downloader._OBSTORE_CLIENT_OPTIONS["allow_http"] = True  # litdata has no setting for servers without TLS
    options = {"endpoint_url": endpoint, "aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": SECRET_KEY}
    dataset = litdata.StreamingDataset(
        path, cache_dir=str(cache), shuffle=False, drop_last=False, storage_options=options
    )
    yield from litdata.StreamingDataLoader(
        dataset, batch_size=BATCH_SIZE, num_workers=WORKERS, collate_fn=_decode_and_stack
    )


def _decode_and_stack(stored: Sequence[dict[str, bytes]]) -> Tensor:
    return torch.stack([_decode(sample["latent"]) for sample in stored])


def download(port: int, paths: Sequence[str]) -> int:
    """Download files with plain HTTP connections, and return the number of bytes."""

    def read(part: Sequence[str]) -> int:
        connection, total = http.client.HTTPConnection("127.0.0.1", port), 0
        for path in part:
            connection.request("GET", path)
            answer = connection.getresponse()
            while chunk := answer.read(1 << 20):
                total += len(chunk)
        connection.close()
        return total

    with ThreadPoolExecutor(CONNECTIONS) as threads:
        return sum(threads.map(read, [paths[number::CONNECTIONS] for number in range(CONNECTIONS)]))
