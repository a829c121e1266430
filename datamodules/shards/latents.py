"""Encodes single samples, and describes autoencoders for dataset.json."""

from itertools import chain
from typing import Any

import safetensors.torch
import torch

from datamodules.shards.buckets import BucketShape, bucket_list, nearest_bucket
from datamodules.shards.decode import decode_image
from datamodules.shards.schema import LATENT_EXTENSION, Sample
from pocketdit.encoders.contract import Autoencoder
from pocketdit.encoders.identity import identify
from pocketdit.images import from_uint8


def encode_sample(sample: Sample, autoencoder: Autoencoder, base_size: int, shape: BucketShape = "aspect") -> Sample:
    """Crop a sample's image to its bucket, and replace the image with its latent in half precision."""
    buckets = bucket_list(base_size, shape)
    bucket = buckets[nearest_bucket(sample.width, sample.height, buckets)]
    image = from_uint8(decode_image(sample, bucket).to(device_of(autoencoder)))
    with torch.inference_mode():
        latent = autoencoder.encode(image[None])[0].to("cpu", torch.float16)
    return Sample(
        id=sample.id,
        captions=sample.captions,
        width=bucket.width,
        height=bucket.height,
        payload=safetensors.torch.save({"latent": latent.contiguous()}),
        extension=LATENT_EXTENSION,
        annotations=sample.annotations,
        seed=sample.seed,
    )


def device_of(autoencoder: Autoencoder) -> torch.device:
    """Return the device of the autoencoder's weights, or the CPU if it has none."""
    weights = chain(autoencoder.parameters(), autoencoder.buffers()) if isinstance(autoencoder, torch.nn.Module) else ()
    return next((tensor.device for tensor in weights), torch.device("cpu"))


def describe_autoencoder(autoencoder: Autoencoder, base_size: int, shape: BucketShape = "aspect") -> dict[str, Any]:
    """Return a description, for dataset.json, of everything that determines the latents of an image."""
    return {
        **identify(autoencoder),
        "channels": autoencoder.channels,
        "factor": autoencoder.factor,
        "base_size": base_size,
        "buckets": shape,
    }
