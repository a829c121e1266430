"""Opens image files. Data sets, reference statistics, metrics and subjects all use this module."""

import io
import warnings
from typing import IO, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from datamodules.shards.color import to_srgb

# Only these formats are opened, regardless of file names, because PIL runs other programs to open some formats.
FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "GIF", "BMP", "TIFF")
IMAGE_SUFFIXES = (
    ".png",
    ".apng",
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".webp",
    ".avif",
    ".gif",
    ".bmp",
    ".tif",
    ".tiff",
)
MAX_PIXELS = 2**28  # 268 megapixels, the limit of WebP and AVIF; 0.8 GB when decoded

# PIL warns about images above its limit and refuses images of more than twice its limit.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2
warnings.simplefilter("ignore", Image.DecompressionBombWarning)

_ORIENTATION = 0x0112  # EXIF tag
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BITS, _PHOTOMETRIC, _PLANES, _SAMPLE_FORMAT = 258, 262, 284, 339  # TIFF tags
_MIN_IS_WHITE, _SEPARATE, _SIGNED = 0, 2, 2  # values of _PHOTOMETRIC, _PLANES and _SAMPLE_FORMAT
_PNG_BITS = 24  # position of the bit depth in a PNG file
_SIGNATURES = {b"II*\0": "TIFF", b"MM\0*": "TIFF", b"\xff\xd8\xff": "JPEG"}
_LONGEST_SIGNATURE = max(map(len, _SIGNATURES))
_PNG_EXIF = (b"eXIf", b"Raw profile type exif", b"XML:com.adobe.xmp")  # where PIL looks for the orientation


class ImageError(Exception):
    """A file cannot be opened as an image. The message says why."""


class OpenedImage(NamedTuple):
    """A decoded image, which looks as in a color-managed viewer.

    Attributes:
        rgb: The pixels: upright, sRGB, with transparency composited on white, 8 bits per channel.
        size: Width and height of the upright image, even if ``rgb`` was decoded at a smaller scale.
        format: The file's format, one of ``FORMATS`` or "MPO".
        frames: Number of frames or pages in the file. ``rgb`` is the first frame.
        is_plain: Whether the file stores exactly ``rgb``: nothing was rotated, composited, or converted.
    """

    rgb: Image.Image
    size: tuple[int, int]
    format: str
    frames: int
    is_plain: bool


def open_image(
    content: bytes, at_least: tuple[int, int] | None = None, formats: tuple[str, ...] = FORMATS
) -> OpenedImage:
    """Decode an image file so that it looks as it would in a color-managed viewer.

    Args:
        content: The bytes of the file.
        at_least: Sufficient width and height. To save time, JPEG files are decoded at 1/2, 1/4, or 1/8 of their size if
            the result is at least this large. None decodes images at full size.
        formats: The formats to open, a subset of ``FORMATS``.

    Raises:
        ImageError: The file is damaged, has an unsupported format or more than ``MAX_PIXELS``, or contains gray values
            whose range is unknown.
    """
    try:
        image = Image.open(io.BytesIO(content), formats=formats)
        width, height = image.size
        if at_least is not None and image.format in ("JPEG", "MPO"):
            is_rotated = _orientation(image) >= 5
            image.draft("RGB", at_least[::-1] if is_rotated else at_least)
        _check_samples(image)
        frame = image.tile[0][1] if image.format == "GIF" and image.tile else None
        image.load()
        _scale_transparency(image, content)
        orientation, frames = _orientation(image), getattr(image, "n_frames", 1)
        rgb = _to_rgb(image)
        if frame is not None and frame != (0, 0, width, height):
            rgb = _on_white(rgb, frame)
        if orientation in _UPRIGHT:
            rgb = rgb.transpose(_UPRIGHT[orientation])
        rgb.info = {}  # otherwise, PIL would also save the profile, which has already been applied
        size = (height, width) if orientation >= 5 else (width, height)
        size = rgb.size if at_least is None else size
        return OpenedImage(rgb, size, str(image.format), frames, rgb is image)
    except ImageError:
        raise
    except Exception as error:  # PIL's plugins raise many types of exceptions for damaged files
        raise ImageError(_describe(error, content, formats)) from error


def read_size(file: IO[bytes]) -> tuple[int, int]:
    """Read the width and height of an upright image (see ``open_image``) from the header of its file.

    Only PNG files that may contain EXIF data are decoded.

    Raises:
        ImageError: The file is not an image, or has more than ``MAX_PIXELS``. Damaged pixels are not detected.
    """
    try:
        with Image.open(file, formats=FORMATS) as image:
            _check_samples(image)
            width, height = image.size
            has_exif = image.format != "PNG" or _mentions_exif(file)
            return (height, width) if has_exif and _orientation(image) >= 5 else (width, height)
    except ImageError:
        raise
    except Exception as error:  # PIL's plugins raise many types of exceptions for damaged files
        file.seek(0)
        raise ImageError(_describe(error, file.read(_LONGEST_SIGNATURE), FORMATS)) from error


def _mentions_exif(file: IO[bytes]) -> bool:
    """Return whether a PNG file may contain an orientation, even after the pixels."""
    position = file.tell()
    file.seek(0)
    content = file.read()
    file.seek(position)
    return any(mark in content for mark in _PNG_EXIF)


def _describe(error: Exception, content: bytes, formats: tuple[str, ...]) -> str:
    if not content:
        return "the file is empty"
    if isinstance(error, UnidentifiedImageError):  # PIL's message contains a memory address, which varies
        kinds = (kind for start, kind in _SIGNATURES.items() if kind in formats and content.startswith(start))
        kind = next(kinds, None)
        return f"a damaged or unsupported kind of {kind}; save it as PNG" if kind else "unknown image format"
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {MAX_PIXELS // 10**6} megapixels"
    return str(error) or type(error).__name__


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, or 1 if it is missing or damaged or if PIL has already applied it."""
    try:
        value = 1 if image.format == "TIFF" else image.getexif().get(_ORIENTATION, 1)
    except Exception:  # PIL raises many types of exceptions for damaged EXIF data
        return 1
    return value if value in _UPRIGHT else 1


def _on_white(rgb: Image.Image, frame: tuple[int, int, int, int]) -> Image.Image:
    """Return the first frame of a GIF on a white canvas. PIL fills the canvas around the frame with another color."""
    white = Image.new("RGB", rgb.size, "white")
    white.paste(rgb.crop(frame), frame[:2])
    return white


def _check_samples(image: Image.Image) -> None:
    """Refuse TIFF files that PIL decodes incorrectly.

    These are files with more than 8 bits per channel in separate planes, and files of signed 8-bit numbers.
    """
    tags = getattr(image, "tag_v2", {})
    if _SIGNED in tags.get(_SAMPLE_FORMAT, ()) and max(tags.get(_BITS, (1,))) <= 8:
        raise ImageError("a TIFF of signed 8-bit numbers; save it as PNG")
    if tags.get(_PLANES) == _SEPARATE and len(tags.get(_BITS, ())) > 1 and max(tags[_BITS]) > 8:
        raise ImageError("a TIFF of more than 8 bits in separate planes; save it as PNG")


def _scale_transparency(image: Image.Image, content: bytes) -> None:
    """Scale the transparent gray level of a PNG file with 2 or 4 bits to 8 bits. PIL scales only the pixels."""
    transparent = image.info.get("transparency")
    if image.format == "PNG" and image.mode == "L" and isinstance(transparent, int):
        bits = content[_PNG_BITS]
        image.info["transparency"] = transparent * 255 // (2**bits - 1)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        color, alpha = _gray(image), _alpha_of_deep_gray(image)
    elif image.has_transparency_data:
        is_gray = image.mode in ("L", "LA", "La")
        full = image.convert("LA" if is_gray else "RGBA")
        color, alpha = full.convert("L" if is_gray else "RGB"), full.getchannel("A")
    else:
        color, alpha = image.convert("L") if image.mode == "1" else image, None
        if color.mode not in ("L", "RGB", "CMYK", "LAB"):
            color = color.convert("RGB")
    rgb = to_srgb(color, image)
    if alpha is None:
        return rgb
    white = Image.new("RGB", rgb.size, "white")
    white.paste(rgb, mask=alpha)
    return white


def _gray(image: Image.Image) -> Image.Image:
    """Scale 16-bit, 32-bit, and floating-point gray values to 8 bits. PIL would clip these values.

    For 16-bit integers, white is the largest number with the file's bit depth. For 32-bit integers and floating-point
    numbers, files do not specify the value of white. It is assumed to be the smallest of the following numbers that no
    value exceeds: 1 (only for floating-point numbers), 255, 65535, and the largest 32-bit integer.
    """
    values, tags = np.asarray(image), getattr(image, "tag_v2", {})
    bits, sample_format = tags.get(_BITS, (16,))[0], tags.get(_SAMPLE_FORMAT, (1,))[0]
    if image.mode == "I" and bits == 32 and sample_format != _SIGNED:
        values = values.view(np.uint32)  # PIL reads unsigned numbers as signed ones
    low, high = values.min(), values.max()
    if not (np.isfinite(low) and np.isfinite(high) and low >= 0):
        raise ImageError("negative or non-finite gray values")
    if 1 < high < 16 and image.mode == "F":
        raise ImageError(f"floating-point values up to {high:.3g}; scale them to the range from 0 to 1")
    white = _white(image.mode, bits, sample_format == _SIGNED, float(high))
    levels = np.rint(values * (255 / white)).astype(np.uint8)
    return Image.fromarray(255 - levels if tags.get(_PHOTOMETRIC) == _MIN_IS_WHITE else levels)


def _white(mode: str, bits: int, is_signed: bool, high: float) -> float:
    if mode != "F" and bits <= 16:
        return 2.0 ** (bits - is_signed) - 1
    candidates = (1.0,) * (mode == "F") + (255.0, 65535.0, 2.0 ** (32 - is_signed) - 1)
    return next((white for white in candidates if high <= white), high)


def _alpha_of_deep_gray(image: Image.Image) -> Image.Image | None:
    transparent = image.info.get("transparency")
    if not isinstance(transparent, int):
        return None
    return Image.fromarray(np.where(np.asarray(image) == transparent, 0, 255).astype(np.uint8))
