"""Encodes the images of a shard, in batches that depend only on the shard."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import torch
from torch import Tensor

from datamodules.shards.buckets import Bucket, BucketShape, bucket_list, nearest_bucket
from datamodules.shards.decode import decode_image
from datamodules.shards.latents import device_of
from datamodules.shards.schema import Sample, reason_of
from pocketdit.encoders.contract import Autoencoder
from pocketdit.images import from_uint8
from pocketdit.losses.reconstruction import psnr

_BATCHES_AHEAD = 2


class Latent(NamedTuple):
    """An encoded image.

    Attributes:
        bucket: The size to which the image was cropped.
        tensor: The latent, (C, h, w), on the CPU in the data type in which it is stored.
        psnr: PSNR of the reconstruction from ``tensor`` in dB, or None if the image was not reconstructed.
    """

    bucket: Bucket
    tensor: Tensor
    psnr: float | None = None


class EncodedBatch(NamedTuple):
    """The result of encoding a batch. Both mappings use sample numbers as keys.

    Attributes:
        latents: The latents of the images that were encoded.
        problems: Why each of the other images could not be encoded.
    """

    latents: dict[int, Latent]
    problems: dict[int, str]


class _Batch(NamedTuple):
    numbers: list[int]
    bucket: Bucket


def plan_batches(samples: Sequence[Sample], base_size: int, shape: BucketShape, batch_size: int) -> list[_Batch]:
    """Divide samples into batches of one bucket each. Incomplete batches come last, after all full batches."""
    buckets = bucket_list(base_size, shape)
    pending: dict[int, list[int]] = {}
    batches = []
    for number, sample in enumerate(samples):
        bucket = nearest_bucket(sample.width, sample.height, buckets)
        pending.setdefault(bucket, []).append(number)
        if len(pending[bucket]) == batch_size:
            batches.append(_Batch(pending.pop(bucket), buckets[bucket]))
    return batches + [_Batch(numbers, buckets[bucket]) for bucket, numbers in sorted(pending.items())]


@torch.inference_mode()
def encode_images(
    samples: Sequence[Sample],
    autoencoder: Autoencoder,
    *,
    base_size: int,
    shape: BucketShape,
    batch_size: int,
    dtype: torch.dtype,
    workers: int,
    reconstructions: int,
) -> Iterator[EncodedBatch]:
    """Encode images, and yield the results of each batch.

    Args:
        samples: Samples with images.
        autoencoder: The autoencoder.
        base_size: Base size of the buckets to which images are cropped.
        shape: Shape of these buckets.
        batch_size: Maximum number of images that are encoded together.
        dtype: Data type in which latents are stored.
        workers: Number of threads that decode images in advance.
        reconstructions: Maximum number of images of the first batch that are reconstructed to measure the PSNR.
    """
    batches = plan_batches(samples, base_size, shape, batch_size)
    for batch, images, problems in _decode_ahead(samples, batches, workers):
        latents: dict[int, Latent] = {}
        if images:
            original = from_uint8(torch.stack(list(images.values())).to(device_of(autoencoder)))
            encoded = autoencoder.encode(original).to(dtype)
            finite = encoded.isfinite().flatten(1).all(dim=1).tolist()
            quality = _reconstruct(autoencoder, encoded[:reconstructions], original[:reconstructions])
            reconstructions = 0
            for i, (number, tensor) in enumerate(zip(images, encoded.cpu(), strict=True)):
                if finite[i]:
                    latents[number] = Latent(
                        batch.bucket,
                        tensor.clone(memory_format=torch.contiguous_format),
                        quality[i] if i < len(quality) else None,
                    )
                else:
                    problems[number] = "the autoencoder's latent is not finite"
        yield EncodedBatch(latents, problems)


def _reconstruct(autoencoder: Autoencoder, latents: Tensor, images: Tensor) -> list[float]:
    """Decode images from their stored latents, and return the PSNR of each image in dB."""
    quality: list[float] = psnr(autoencoder.decode(latents.float()), images).tolist() if len(images) else []
    return quality


_Decoded = tuple[_Batch, dict[int, Tensor], dict[int, str]]


def _decode_ahead(samples: Sequence[Sample], batches: Sequence[_Batch], workers: int) -> Iterator[_Decoded]:
    """Decode images in advance, and yield the decoded images and the decoding errors of each batch.

    Both mappings use sample numbers as keys.
    """
    ahead: deque[tuple[_Batch, list[Future[Tensor]]]] = deque()
    with ThreadPoolExecutor(max(1, workers), thread_name_prefix="decode") as pool:
        for batch in batches:
            ahead.append((batch, [pool.submit(decode_image, samples[i], batch.bucket) for i in batch.numbers]))
            if len(ahead) > _BATCHES_AHEAD:
                yield _collect(*ahead.popleft())
        while ahead:
            yield _collect(*ahead.popleft())


def _collect(batch: _Batch, futures: Sequence[Future[Tensor]]) -> _Decoded:
    images, problems = {}, {}
    for number, future in zip(batch.numbers, futures, strict=True):
        try:
            images[number] = future.result()
        except Exception as error:  # a broken image can raise any exception, but must not affect the other images
            problems[number] = reason_of(error)
    return batch, images, problems
