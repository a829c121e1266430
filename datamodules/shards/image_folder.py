"""Converts a folder of user-provided images of any size and format into samples."""

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from datamodules.shards.caption_files import CaptionTable, read_captions_beside
from datamodules.shards.images import IMAGE_SUFFIXES, ImageError, open_image
from datamodules.shards.schema import Sample, SampleError

_KEPT_FORMATS = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp"}


@dataclass(frozen=True)
class Candidate:
    """An image with captions.

    Attributes:
        id: Path of the image relative to the folder.
        path: Path of the image.
        captions: One or more captions.
        position: A hash of the ID in [0, 1), which determines the split.
    """

    id: str
    path: Path
    captions: tuple[str, ...]
    position: float


@dataclass(frozen=True)
class SkippedImage:
    """A skipped image and the reason for skipping it."""

    id: str
    reason: str

    def __str__(self) -> str:
        return f"{self.id}: {self.reason}"


def find_images(folder: Path) -> list[Path]:
    """Return all images in a folder and its subfolders, sorted. Names that start with a dot are ignored."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def find_candidates(folder: Path, table: CaptionTable, *, table_only: bool) -> Iterator[Candidate | SkippedImage]:
    """Yield every image with its captions, and then the images in the table that do not exist.

    Captions next to an image take precedence over the table, unless ``table_only`` is set.
    """
    images = find_images(folder)
    for path in images:
        name = path.relative_to(folder).as_posix()
        try:
            captions = None if table_only else read_captions_beside(path)
        except SampleError as error:
            yield SkippedImage(name, str(error))
            continue
        captions = captions or table.get(path.resolve())
        if captions:
            yield Candidate(name, path, tuple(captions), _position(name))
        else:
            yield SkippedImage(name, "no caption (add a .txt or .json file next to it, or a row to the table)")
    resolved = {path.resolve() for path in images}
    for path in table:
        if path not in resolved:
            yield SkippedImage(str(path), "in the caption table, but the folder does not contain this image")


def load_image(candidate: Candidate, max_side: int | None = None) -> Sample:
    """Load an image as a sample, keeping its original bytes if possible.

    The bytes are kept if the file is a PNG, JPEG, or WebP of one frame that stores exactly the pixels to train on (see
    ``open_image``), and no side is longer than ``max_side``. Other images are stored as JPEG (quality 95) if the
    original is a JPEG, and as PNG otherwise.

    Raises:
        SampleError: The file cannot be read or decoded.
    """
    try:
        content = candidate.path.read_bytes()
        opened = open_image(content)
    except (OSError, ImageError) as error:
        raise SampleError(f"cannot be decoded ({error})") from error
    extension = _KEPT_FORMATS.get(opened.format, "jpg" if opened.format == "MPO" else "png")
    image = _scale_down(opened.rgb, max_side)
    is_kept = opened.is_plain and opened.frames == 1 and image is opened.rgb and opened.format in _KEPT_FORMATS
    if not is_kept:
        extension = "jpg" if extension == "jpg" else "png"
        content = _encode(image, extension)
    return Sample(candidate.id, candidate.captions, image.width, image.height, content, extension)


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


def _position(name: str) -> float:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big") / 2**64
