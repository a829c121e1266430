"""Decodes stored images and latents into tensors."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors.torch
import torch
from PIL import Image

from datamodules.shards.buckets import Bucket, cover_box
from datamodules.shards.images import ImageError, open_image
from datamodules.shards.schema import Sample, SampleError


def open_stored_image(sample: Sample, at_least: tuple[int, int] | None = None) -> Image.Image:
    """Decode a stored image to RGB and check its size.

    Args:
        sample: A sample with an image.
        at_least: See ``open_image``.

    Raises:
        SampleError: The payload is not an image, or its size differs from the metadata.
    """
    try:
        image = open_image(sample.payload, at_least, sample.formats)
    except ImageError as error:
        raise SampleError(f"image cannot be decoded ({error})") from error
    if image.size != (sample.width, sample.height):
        width, height = image.size
        raise SampleError(f"image is {width}x{height}, but the metadata says {sample.width}x{sample.height}")
    return image.rgb


def decode_image(
    sample: Sample, bucket: Bucket, *, crop_x: float = 0.5, crop_y: float = 0.5, flip: bool = False
) -> torch.Tensor:
    """Decode an image, and crop and resize it to a bucket.

    Args:
        sample: A sample with an image.
        bucket: Size of the result. The largest crop with the aspect ratio of the bucket is resized to this size.
        crop_x: Horizontal position of the crop in [0, 1]; 0.5 is the center.
        crop_y: Vertical position of the crop in [0, 1].
        flip: Mirror the image.

    Returns:
        uint8 (3, H, W).

    Raises:
        SampleError: The image cannot be decoded.
    """
    rgb = open_stored_image(sample, at_least=bucket)
    if rgb.size != bucket:
        box = cover_box(*rgb.size, bucket, crop_x, crop_y)
        rgb = rgb.resize(bucket, Image.Resampling.LANCZOS, box=box, reducing_gap=3.0)
    if flip:
        rgb = rgb.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return torch.from_numpy(np.array(rgb)).permute(2, 0, 1).contiguous()


def decode_tensors(sample: Sample) -> dict[str, torch.Tensor]:
    """Decode all tensors of a sample of an encoded data set. The tensors keep their stored types.

    Raises:
        SampleError: The payload is not a safetensors file.
    """
    try:
        tensors: dict[str, torch.Tensor] = safetensors.torch.load(sample.payload)
    except Exception as error:  # damaged files raise several types of exceptions
        raise SampleError(f"latent cannot be decoded ({error})") from error
    return tensors


def decode_latent(sample: Sample, autoencoder: Mapping[str, Any]) -> torch.Tensor:
    """Decode a stored latent. See ``read_latent``."""
    return read_latent(decode_tensors(sample), sample, autoencoder)


def read_latent(tensors: Mapping[str, torch.Tensor], sample: Sample, autoencoder: Mapping[str, Any]) -> torch.Tensor:
    """Check a sample's latent, and return it.

    Args:
        tensors: The sample's tensors.
        sample: The sample.
        autoencoder: Description of the autoencoder (see ``describe_autoencoder``). The latent's shape is checked
            against "factor" and, if present, "channels".

    Returns:
        float32 (C, h, w).

    Raises:
        SampleError: The tensor "latent" is missing, is not finite, or has the wrong type or shape.
    """
    if "latent" not in tensors:
        raise SampleError(f'the payload does not contain the tensor "latent", only {sorted(tensors)}')
    if not tensors["latent"].is_floating_point():
        raise SampleError(f"latent has type {tensors['latent'].dtype}, which is not a floating-point type")
    latent: torch.Tensor = tensors["latent"].float()
    factor, channels = int(autoencoder["factor"]), autoencoder.get("channels")
    expected = (sample.height // factor, sample.width // factor)
    wrong_channels = latent.ndim == 3 and channels is not None and latent.shape[0] != channels
    if latent.ndim != 3 or tuple(latent.shape[1:]) != expected or wrong_channels:
        expected_text = f"({channels or 'C'}, {expected[0]}, {expected[1]})"
        raise SampleError(f"latent has shape {tuple(latent.shape)}, expected {expected_text}")
    if not torch.isfinite(latent).all():
        raise SampleError("latent is not finite")
    return latent
