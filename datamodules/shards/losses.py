"""Measures how much of each image is cropped away, and how much it is enlarged, when it is fitted to its bucket."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from datamodules.shards.buckets import Bucket, BucketShape, bucket_list, cover_box, nearest_bucket

MAX_CROP, MAX_ENLARGEMENT = 0.5, 2.0


@dataclass
class CropLosses:
    """The losses of a data set's images when they are cropped and scaled to their buckets.

    Attributes:
        base_size: Base size of the buckets.
        shape: Shape of the buckets.
        max_crop: Count the images that lose more than this share of their area to cropping.
        max_enlargement: Count the images that are scaled up by more than this factor.
    """

    base_size: int
    shape: BucketShape = "aspect"
    max_crop: float = MAX_CROP
    max_enlargement: float = MAX_ENLARGEMENT
    _images: int = field(default=0, init=False)
    _removed: float = field(default=0.0, init=False)
    _cropped: int = field(default=0, init=False)
    _enlarged: int = field(default=0, init=False)
    _worst_crop: "_Worst | None" = field(default=None, init=False)
    _worst_enlargement: "_Worst | None" = field(default=None, init=False)

    def add(self, width: int, height: int, name: str, count: int = 1) -> None:
        """Add ``count`` images of the same size. ``name`` is the name of one of them."""
        removed, enlargement = self.measure(width, height)
        self._images += count
        self._removed += count * removed
        self._cropped += count * (removed > self.max_crop)
        self._enlarged += count * (enlargement > self.max_enlargement)
        if self._worst_crop is None or removed > self._worst_crop.value:
            self._worst_crop = _Worst(removed, name, height, width)
        if self._worst_enlargement is None or enlargement > self._worst_enlargement.value:
            self._worst_enlargement = _Worst(enlargement, name, height, width)

    def measure(self, width: int, height: int) -> tuple[float, float]:
        """Return the share of an image's area that cropping removes, and the factor by which it is scaled up."""
        return _measure(width, height, bucket_list(self.base_size, self.shape))

    def excess(self, width: int, height: int, max_crop: float | None, max_enlargement: float | None) -> "Excess | None":
        """Return the limit that an image exceeds, or None if it is within both limits."""
        removed, enlargement = self.measure(width, height)
        if max_crop is not None and removed > max_crop:
            rule = f"--max-crop {max_crop:g}"
            return Excess(rule, f"left out: cropping would remove {100 * removed:.1f}% of it ({rule})")
        if max_enlargement is not None and enlargement > max_enlargement:
            rule = f"--max-enlargement {max_enlargement:g}"
            return Excess(rule, f"left out: it would be enlarged by a factor of {enlargement:.3g} ({rule})")
        return None

    def describe(self, name_of: Callable[[str], str] = str) -> str:
        """Describe the losses in one line.

        Args:
            name_of: Function that converts a name passed to ``add`` to the name in the description.
        """
        crop, enlargement = self._worst_crop, self._worst_enlargement
        if crop is None or enlargement is None:
            return f"no images to crop at base size {self.base_size}"
        cropped, enlarged = (f"{name_of(worst.name)}, {worst.height}x{worst.width}" for worst in (crop, enlargement))
        return (
            f"{self.shape} buckets of base size {self.base_size}: cropping removes "
            f"{100 * self._removed / self._images:.1f}% of an image on average, at most {100 * crop.value:.1f}% "
            f"({cropped}), and more than {100 * self.max_crop:g}% of {self._cropped} images; {self._enlarged} of "
            f"{self._images} images are enlarged by a factor of more than {self.max_enlargement:g}; the largest factor "
            f"is {enlargement.value:.3g} ({enlarged})"
        )


class Excess(NamedTuple):
    """A limit that an image exceeds.

    Attributes:
        rule: The option that sets the limit.
        reason: Why the image is left out, with the measured value.
    """

    rule: str
    reason: str


class _Worst(NamedTuple):
    value: float
    name: str
    height: int
    width: int


@lru_cache(maxsize=4096)
def _measure(width: int, height: int, buckets: tuple[Bucket, ...]) -> tuple[float, float]:
    bucket = buckets[nearest_bucket(width, height, buckets)]
    left, top, right, bottom = cover_box(width, height, bucket)
    return 1 - (right - left) * (bottom - top) / (width * height), bucket.width / (right - left)
