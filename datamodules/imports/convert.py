"""Converts image files of any format and size into the images that are stored in shards."""

import io
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from datamodules.imports.entries import FilePart
from datamodules.shards.images import ImageError, OpenedImage, open_image
from datamodules.shards.schema import SampleError
from datamodules.shards.sources import is_file, path_text

_KEPT_FORMATS = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp"}


class StoredImage(NamedTuple):
    """An image in its stored form.

    Attributes:
        payload: The bytes of the encoded image.
        extension: File extension for the format of these bytes.
        width: Width in pixels.
        height: Height in pixels.
    """

    payload: bytes
    extension: str
    width: int
    height: int


def read_content(content: bytes | Path | FilePart) -> bytes:
    """Return the bytes of an image file.

    Raises:
        SampleError: The file cannot be read.
    """
    match content:
        case bytes():
            return content
        case FilePart(path, offset, length):
            pass
        case Path() as path:
            offset, length = 0, -1
    if not is_file(path):  # a pipe or a device might never end
        raise SampleError(f"{path_text(path)} is not a file")
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(length)
    except OSError as error:
        raise SampleError(f"cannot be decoded ({error})") from error


def decode(content: bytes) -> OpenedImage:
    """Decode an image file, so that the image looks as in a color-managed viewer.

    Raises:
        SampleError: The file cannot be decoded.
    """
    try:
        return open_image(content)
    except ImageError as error:
        raise SampleError(f"cannot be decoded ({error})") from error


def convert(content: bytes, opened: OpenedImage, max_side: int | None = None) -> StoredImage:
    """Return the image to store, keeping the original bytes if possible.

    The bytes are kept if the file is a PNG, JPEG, or WebP with one frame that stores exactly the pixels to train on
    (see ``open_image``), and no side is longer than ``max_side``. Other images are stored as JPEG (quality 95) if the
    original is a JPEG, and as PNG otherwise.
    """
    extension = _KEPT_FORMATS.get(opened.format, "jpg" if opened.format == "MPO" else "png")
    image = _scale_down(opened.rgb, max_side)
    is_kept = opened.is_plain and opened.frames == 1 and image is opened.rgb and opened.format in _KEPT_FORMATS
    if not is_kept:
        extension = "jpg" if extension == "jpg" else "png"
        content = _encode(image, extension)
    return StoredImage(content, extension, image.width, image.height)


def _scale_down(image: Image.Image, max_side: int | None) -> Image.Image:
    if max_side is None or max(image.size) <= max_side:
        return image
    scale = max_side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def _encode(image: Image.Image, extension: str) -> bytes:
    file = io.BytesIO()
    if extension == "jpg":
        image.save(file, format="JPEG", quality=95, subsampling=0)
    else:
        image.save(file, format="PNG")
    return file.getvalue()
