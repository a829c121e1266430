"""Converts decoded images to sRGB, so that they look as in a color-managed viewer."""

import io
import math
import struct
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

# Mapping from the color space of a profile to the mode of the images that the profile describes.
_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}
_SRGB_PRIMARIES = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)  # x and y of white, red, green and blue
_ADOBE_PRIMARIES = (0.3127, 0.329, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
_D50 = (0.9642, 1.0, 0.8249)
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)  # parameters of an ICC curve of type 3
_DAMAGED_PROFILE = (OSError, ImageCms.PyCMSError, UnicodeDecodeError)
_INTEROPERABILITY = 0xA005  # EXIF directory, whose entry 1 is "R03" for Adobe RGB


def to_srgb(image: Image.Image, source: Image.Image) -> Image.Image:
    """Convert an image without transparency to RGB in sRGB.

    The ICC profile determines the color space of the image. Without a profile, it is determined by the gAMA and cHRM
    chunks of a PNG file, or by the EXIF data of a JPEG file, which can specify Adobe RGB. Otherwise, the color space is
    sRGB. As in viewers, profiles that are damaged or describe another kind of image are ignored.

    Args:
        image: Image of mode L, RGB, CMYK or LAB.
        source: The image as PIL opened it, with its profile and its EXIF data.

    Returns:
        An RGB image, which is ``image`` itself if its values are already sRGB.
    """
    profile = _profile_of(source)
    if profile is not None:
        mode = _color_mode(profile)
        if image.mode == "L" and mode == "RGB":
            image = image.convert("RGB")
        if image.mode == mode and (transform := _transform(profile, mode)) is not None:
            converted: Image.Image | None = ImageCms.applyTransform(image, transform)
            assert converted is not None  # the result is None only if an image is converted in place
            return converted
    return image if image.mode == "RGB" else image.convert("RGB")


def _profile_of(source: Image.Image) -> bytes | None:
    """Return the ICC profile that describes an image, or None for sRGB."""
    profile: bytes | None = source.info.get("icc_profile")
    if profile or source.format not in ("PNG", "JPEG", "MPO"):
        return profile
    if source.format != "PNG":
        return _matrix_profile(563 / 256, _ADOBE_PRIMARIES) if _is_adobe_rgb(source) else None
    gamma = source.info.get("gamma", 0)
    if "srgb" in source.info or not 0.01 < gamma < 100:
        return None
    primaries = tuple(source.info.get("chromaticity", _SRGB_PRIMARIES))
    # Files cannot express sRGB's curve as a gamma, so programs write 1/2.2 as an approximation.
    return _matrix_profile(None if math.isclose(gamma, 1 / 2.2, abs_tol=0.005) else 1 / gamma, primaries)


def _is_adobe_rgb(source: Image.Image) -> bool:
    if "exif" not in source.info:
        return False
    try:
        return bool(source.getexif().get_ifd(_INTEROPERABILITY).get(1) == "R03")
    except Exception:  # damaged EXIF data
        return False


@lru_cache(maxsize=64)
def _color_mode(profile: bytes) -> str | None:
    try:
        return _MODES.get(ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile.xcolor_space.strip())
    except _DAMAGED_PROFILE:
        return None


@lru_cache(maxsize=64)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return the transform to sRGB, or None if the profile is damaged or changes no channel by more than 1 of 255."""
    try:
        transform = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB"), mode, "RGB"
        )
    except _DAMAGED_PROFILE:
        return None
    if mode != "RGB":
        return transform
    levels = np.linspace(0, 255, 18, dtype=np.uint8)
    colors = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(1, -1, 3)
    converted = ImageCms.applyTransform(Image.fromarray(colors), transform)
    return None if np.abs(np.asarray(converted).astype(int) - colors).max() <= 1 else transform


@lru_cache(maxsize=64)
def _matrix_profile(gamma: float | None, primaries: Sequence[float]) -> bytes | None:
    """Return an ICC profile for a gamma (None means sRGB's curve) and primaries.

    Returns:
        The profile, or None if the primaries are degenerate.
    """
    try:
        colorants = _adapted_colorants(primaries)
    except (np.linalg.LinAlgError, ZeroDivisionError):
        return None
    parameters = (gamma,) if gamma else _SRGB_CURVE
    curve = b"para\0\0\0\0" + struct.pack(">HH", 0 if gamma else 3, 0) + _fixed(*parameters)
    content = b"".join(b"XYZ \0\0\0\0" + _fixed(*column) for column in colorants.T) + curve
    start = 128 + 4 + 6 * 12
    tags = [(f"{name}XYZ", start + 20 * i, 20) for i, name in enumerate("rgb")]
    tags += [(f"{name}TRC", start + 60, len(curve)) for name in "rgb"]
    table = struct.pack(">I", len(tags)) + b"".join(
        name.encode() + struct.pack(">II", offset, size) for name, offset, size in tags
    )
    header = struct.pack(">I4xI", start + len(content), 0x04200000) + b"mntrRGB XYZ " + bytes(12) + b"acsp"
    return (header.ljust(68, b"\0") + _fixed(*_D50)).ljust(128, b"\0") + table + content


def _adapted_colorants(primaries: Sequence[float]) -> NDArray[np.float64]:
    """Return a matrix whose columns are the XYZ values of red, green and blue, adapted from the white point to D50."""
    white, *colors = (
        np.array([x / y, 1.0, (1 - x - y) / y]) for x, y in zip(primaries[::2], primaries[1::2], strict=True)
    )
    matrix = np.stack(colors, axis=1)
    matrix = matrix * np.linalg.solve(matrix, white)
    scale = (_BRADFORD @ _D50) / (_BRADFORD @ white)
    adapted: NDArray[np.float64] = np.linalg.inv(_BRADFORD) @ np.diag(scale) @ _BRADFORD @ matrix
    return adapted


def _fixed(*values: float) -> bytes:
    """Encode numbers as ICC's s15Fixed16Number."""
    return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))
