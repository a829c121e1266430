"""Computes the image hashes that are compared to find duplicates."""

import hashlib

from PIL import Image

from datamodules.filters.duplicates import ImageHashes
from pocketdit.errors import ConfigError


def hash_image(rgb: Image.Image, perceptual: bool) -> ImageHashes:
    """Compute the exact hash of an RGB image and, if ``perceptual`` is set, its perceptual hash.

    Each bit of the perceptual hash (``imagehash.phash``) records whether one of the 64 lowest-frequency coefficients of
    the grayscale image exceeds the median of these coefficients. The perceptual hash ignores colors.

    Raises:
        ConfigError: The package imagehash is not installed.
    """
    digest = hashlib.blake2b(repr(rgb.size).encode(), digest_size=16)
    digest.update(rgb.tobytes())
    return ImageHashes(digest.hexdigest(), _look(rgb) if perceptual else 0)


def require_imagehash() -> None:
    """Check that the package imagehash is installed.

    Raises:
        ConfigError: The package is not installed.
    """
    try:
        import imagehash  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "--drop-duplicates BITS: needs the package imagehash; install it with: pip install 'pocketdit[import]'"
        ) from error


def _look(rgb: Image.Image) -> int:
    import imagehash

    return int(str(imagehash.phash(rgb)), 16)
