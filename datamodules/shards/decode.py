"""Decodes stored images and latents into tensors."""

import io
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors.torch
import torch
from PIL import Image, UnidentifiedImageError
from safetensors import SafetensorError

from datamodules.shards.buckets import Bucket, cover_box
from datamodules.shards.schema import Sample, SampleError

# Exceptions that PIL raises for files that are not images, are broken, or are decompression bombs.
DECODE_ERRORS = (
    OSError,
    ValueError,
    SyntaxError,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


def describe_decode_error(error: Exception) -> str:
    """Return why an image cannot be decoded. PIL's message for unknown formats varies: it contains an address."""
    return "unknown image format" if isinstance(error, UnidentifiedImageError) else str(error)


def open_image(sample: Sample) -> Image.Image:
    """Open a stored image and check its size. Pixels are decoded lazily.

    Raises:
        SampleError: The payload is not an image, or its size differs from the metadata.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(sample.payload))
    except DECODE_ERRORS as error:
        raise SampleError(f"image cannot be decoded ({describe_decode_error(error)})") from error
    if image.size != (sample.width, sample.height):
        raise SampleError(
            f"image is {image.width}x{image.height}, but the metadata says {sample.width}x{sample.height}"
        )
    return image


def decode_image(
    sample: Sample, bucket: Bucket, *, crop_x: float = 0.5, crop_y: float = 0.5, flip: bool = False
) -> torch.Tensor:
    """Decode an image and resize and crop it to a bucket.

    Args:
        sample: A sample with an image.
        bucket: Size of the result. The image is scaled to cover it.
        crop_x: Horizontal position of the crop in [0, 1]; 0.5 is the center.
        crop_y: Vertical position of the crop in [0, 1].
        flip: Mirror the image.

    Returns:
        uint8 (3, H, W).

    Raises:
        SampleError: The image cannot be decoded.
    """
    image = open_image(sample)
    try:
        # JPEGs decode faster at 1/2, 1/4, or 1/8 of their size. draft() does not go below the bucket's size.
        image.draft("RGB", bucket)
        image.load()
        rgb = image if image.mode == "RGB" else image.convert("RGB")
    except DECODE_ERRORS as error:
        raise SampleError(f"image cannot be decoded ({describe_decode_error(error)})") from error
    if rgb.size != bucket:
        box = cover_box(*rgb.size, bucket, crop_x, crop_y)
        rgb = rgb.resize(bucket, Image.Resampling.LANCZOS, box=box, reducing_gap=3.0)
    if flip:
        rgb = rgb.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return torch.from_numpy(np.array(rgb)).permute(2, 0, 1).contiguous()


def decode_latent(sample: Sample, autoencoder: Mapping[str, Any]) -> torch.Tensor:
    """Decode a stored latent.

    Args:
        sample: A sample with a latent.
        autoencoder: Description of the autoencoder (see ``describe_autoencoder``). The latent's shape is checked
            against "factor" and, if present, "channels".

    Returns:
        float32 (C, h, w).

    Raises:
        SampleError: The payload is not a safetensors file or does not contain the tensor "latent", or the latent has
            the wrong shape or is not finite.
    """
    try:
        tensors = safetensors.torch.load(sample.payload)
    except SafetensorError as error:
        raise SampleError(f"latent cannot be decoded ({error})") from error
    if "latent" not in tensors:
        raise SampleError(f'the payload does not contain the tensor "latent", only {sorted(tensors)}')
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
