"""From stored bytes to tensors of a bucket's size."""

import io
import warnings
from typing import Any

import numpy as np
import safetensors.torch
import torch
from PIL import Image, UnidentifiedImageError
from safetensors import SafetensorError

from datamodules.shards.buckets import Bucket, cover_box
from datamodules.shards.schema import Sample, SampleError

# What PIL raises for a file that is no picture, or a broken or hostile one.
DECODE_ERRORS = (
    OSError,
    ValueError,
    SyntaxError,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


def describe_decode_error(error: Exception) -> str:
    """Why a picture does not decode, the same text every time (PIL's names an object's address)."""
    return "no known image format" if isinstance(error, UnidentifiedImageError) else str(error)


def open_image(sample: Sample) -> Image.Image:
    """The stored picture, its header read and its size checked; pixels not decoded yet.

    Raises:
        SampleError: no picture, or not of the size that the JSON says.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(sample.payload))
    except DECODE_ERRORS as error:
        raise SampleError(f"image does not decode ({describe_decode_error(error)})") from error
    if image.size != (sample.width, sample.height):
        raise SampleError(f"image is {image.width}x{image.height}, json says {sample.width}x{sample.height}")
    return image


def decode_image(
    sample: Sample, bucket: Bucket, *, across: float = 0.5, down: float = 0.5, flip: bool = False
) -> torch.Tensor:
    """The picture scaled to cover the bucket and cut to it, uint8 (3, H, W).

    ``across`` and ``down`` in [0, 1] place the cut (0.5: centre).

    Raises:
        SampleError: the picture does not decode.
    """
    image = open_image(sample)
    try:
        # A JPEG can be decoded at a half, quarter or eighth of its size; never below the bucket's.
        image.draft("RGB", bucket)
        image.load()
        picture = image if image.mode == "RGB" else image.convert("RGB")
    except DECODE_ERRORS as error:
        raise SampleError(f"image does not decode ({describe_decode_error(error)})") from error
    if picture.size != bucket:
        box = cover_box(*picture.size, bucket, across, down)
        picture = picture.resize(bucket, Image.Resampling.LANCZOS, box=box, reducing_gap=3.0)
    if flip:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()


def decode_latent(sample: Sample, autoencoder: dict[str, Any] | None = None) -> torch.Tensor:
    """The stored latent (C, h, w), float32.

    ``autoencoder`` (of dataset.json) gives "factor" and "channels" to check the shape against.

    Raises:
        SampleError: not safetensors, no tensor "latent", wrong shape or not finite.
    """
    try:
        tensors = safetensors.torch.load(sample.payload)
    except SafetensorError as error:
        raise SampleError(f"latent does not decode ({error})") from error
    if "latent" not in tensors:
        raise SampleError(f'no tensor "latent" (found {sorted(tensors)})')
    latent = tensors["latent"].float()
    described = autoencoder or {}
    factor, channels = int(described.get("factor", 8)), described.get("channels")
    expected = (sample.height // factor, sample.width // factor)
    wrong_channels = latent.ndim == 3 and channels is not None and latent.shape[0] != channels
    if latent.ndim != 3 or tuple(latent.shape[1:]) != expected or wrong_channels:
        wanted = f"({channels or 'C'}, {expected[0]}, {expected[1]})"
        raise SampleError(f"latent has shape {tuple(latent.shape)}, expected {wanted}")
    if not torch.isfinite(latent).all():
        raise SampleError("latent is not finite")
    return latent
