"""Filters by image size, caption length, column values, and similarity to earlier images."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from datamodules.filters.where import Condition, Row


@dataclass(frozen=True)
class Filters:
    """Which images and captions to use. Every limit is inclusive, and None means no limit.

    Attributes:
        min_side: Minimum length of the shorter side in pixels.
        max_aspect: Maximum ratio of the longer to the shorter side.
        min_pixels: Minimum number of pixels.
        max_pixels: Maximum number of pixels.
        min_words: Minimum number of words in a caption. Shorter captions are removed.
        max_words: Maximum number of words in a caption. Longer captions are removed.
        where: Conditions on the columns, all of which must hold.
        duplicates: "exact" excludes images with the same pixels as an earlier image. A number excludes images whose
            perceptual hash differs from that of an earlier image in at most this number of bits.
    """

    min_side: int | None = None
    max_aspect: float | None = None
    min_pixels: int | None = None
    max_pixels: int | None = None
    min_words: int | None = None
    max_words: int | None = None
    where: tuple[Condition, ...] = ()
    duplicates: Literal["exact"] | int | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns to which the conditions refer."""
        return tuple(dict.fromkeys(name for condition in self.where for name in condition.columns))

    @property
    def distance(self) -> int | None:
        """Maximum number of differing bits in the perceptual hashes of duplicates, or None if they are not compared."""
        return self.duplicates if isinstance(self.duplicates, int) else None

    def captions_within(self, captions: tuple[str, ...]) -> tuple[str, ...]:
        """Return the captions whose word counts are within the limits."""
        low, high = self.min_words or 0, self.max_words
        return tuple(
            text for text in captions if low <= len(text.split()) and (high is None or len(text.split()) <= high)
        )

    @property
    def caption_rule(self) -> str:
        """The command-line options that limit the length of captions."""
        limits = {"--min-words": self.min_words, "--max-words": self.max_words}
        return " ".join(f"{option} {limit}" for option, limit in limits.items() if limit is not None)

    def rule_against_size(self, width: int, height: int) -> str | None:
        """Return the command-line option that excludes images of this size, or None if no option excludes them."""
        return next((rule for rule, is_exceeded in self._sizes(width, height) if is_exceeded), None)

    def rule_against_row(self, row: Row) -> tuple[str, str] | None:
        """Return the command-line option that excludes an image with these column values, and the reason.

        Returns:
            The option and the reason, or None if no option excludes the image.
        """
        for condition in self.where:
            rule, holds = f"--where {condition.text!r}", condition.holds(row)
            if holds is None:
                return f"{rule} (no value)", f"left out: {rule} has no value to compare"
            if not holds:
                return rule, f"left out: {rule}"
        return None

    def _sizes(self, width: int, height: int) -> Iterator[tuple[str, bool]]:
        short, long, pixels = min(width, height), max(width, height), width * height
        if self.min_side is not None:
            yield f"--min-side {self.min_side}", short < self.min_side
        if self.max_aspect is not None:
            yield f"--max-aspect {self.max_aspect:g}", long > self.max_aspect * short
        if self.min_pixels is not None:
            yield f"--min-pixels {self.min_pixels}", pixels < self.min_pixels
        if self.max_pixels is not None:
            yield f"--max-pixels {self.max_pixels}", pixels > self.max_pixels
