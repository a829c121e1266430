"""Processes a unit: reads its images, filters and converts them, and writes the result to files."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from datamodules.filters.hashes import hash_image
from datamodules.filters.limits import Filters
from datamodules.imports.convert import convert, decode, read_content
from datamodules.imports.entries import Entry, Unit
from datamodules.imports.unit_files import Record, UnitFiles
from datamodules.shards.losses import CropLosses
from datamodules.shards.schema import SampleError
from datamodules.shards.skips import SkippedImage
from pocketdit.errors import UserError

UNDECODABLE = "cannot be decoded"


class BuildStoppedError(Exception):
    """The build has failed in another process, so the unit is no longer needed."""


@dataclass(frozen=True)
class Job:
    """A job that processes the units of a build.

    Attributes:
        folder: Folder of the units' files.
        filters: Which images to use.
        losses: Object that measures the cropping losses of images.
        max_side: Scale larger images down so that their longer side has this length.
        max_crop: Skip images that lose more than this share of their area to cropping.
        max_enlargement: Skip images that are scaled up by more than this factor.
    """

    folder: Path
    filters: Filters
    losses: CropLosses
    max_side: int | None = None
    max_crop: float | None = None
    max_enlargement: float | None = None

    def is_finished(self, number: int) -> bool:
        """Return whether a unit has been processed."""
        return UnitFiles(self.folder, number).is_finished

    def run(self, number: int, unit: Unit, should_stop: Callable[[], bool]) -> None:
        """Process a unit.

        Args:
            number: Number of the unit.
            unit: The unit.
            should_stop: Function that returns whether the result is no longer needed.

        Raises:
            BuildStoppedError: The result is no longer needed.
            UserError: No image of the first unit has a column that the filters need.
        """
        UnitFiles(self.folder, number).write(lambda file: self._process(number, unit, file, should_stop))

    def _process(
        self, number: int, unit: Unit, file: BinaryIO, should_stop: Callable[[], bool]
    ) -> Iterator[Record | SkippedImage]:
        columns = Columns(self.filters.columns if number == 0 else ())
        for entry in unit.read():
            if should_stop():
                raise BuildStoppedError
            if isinstance(entry, SkippedImage):
                yield entry
                continue
            columns.add(entry.columns)
            yield self._convert(entry, file)
        columns.check()

    def _convert(self, entry: Entry, file: BinaryIO) -> Record | SkippedImage:
        filters = self.filters
        captions = filters.captions_within(entry.captions)
        if not captions:
            rule = filters.caption_rule
            return SkippedImage(entry.id, f"left out: {rule} leaves no caption", rule)
        if against := filters.rule_against_row(entry.columns):
            rule, reason = against
            return SkippedImage(entry.id, reason, rule)
        try:
            content = read_content(entry.content)
            opened = decode(content)
        except SampleError as error:
            return SkippedImage(entry.id, str(error), UNDECODABLE)
        if size_rule := filters.rule_against_size(*opened.size):
            return SkippedImage(entry.id, f"left out: {size_rule}", size_rule)
        image = convert(content, opened, self.max_side)
        size = image.width, image.height
        if excess := self.losses.excess(*size, self.max_crop, self.max_enlargement):
            return SkippedImage(entry.id, excess.reason, excess.rule)
        hashes = hash_image(opened.rgb, filters.distance is not None) if filters.duplicates is not None else None
        offset = file.tell()
        file.write(image.payload)
        return Record(
            entry.id, captions, *size, image.extension, offset, len(image.payload), entry.split, opened.frames, hashes
        )


class Columns:
    """Checks that every column in the conditions occurs in at least one image of a unit, to detect misspelled names.

    Args:
        needed: The columns to which conditions refer.
    """

    def __init__(self, needed: tuple[str, ...]) -> None:
        self._missing, self._seen = set(needed), set[str]()
        self._is_empty = True

    def add(self, columns: Mapping[str, object]) -> None:
        """Record the columns of an image."""
        if self._missing:
            self._is_empty = False
            self._missing -= columns.keys()
            self._seen |= columns.keys()

    def check(self) -> None:
        """Check that every column has been recorded.

        Raises:
            UserError: No image has one of the columns.
        """
        if self._missing and not self._is_empty:
            name = min(self._missing)
            seen = ", ".join(sorted(self._seen)) or "none"
            raise UserError(f"--where: no image has the column {name!r}; the columns are: {seen}")
