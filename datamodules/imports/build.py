"""Builds data sets from a user's own images, with one pipeline for all layouts.

A layout divides its source into units. Worker processes read the units, filter and convert their images, and write the
results to files (``unit_files``). The main process reads these files in order, finds duplicates, assigns splits, and
writes shards. As a result, the data set does not depend on the number of processes, memory use does not grow with the
number of images, and a build that was killed keeps the units and shards that it has finished.
"""

import hashlib
import json
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from tqdm.auto import tqdm

from datamodules.filters.duplicates import DuplicateIndex
from datamodules.filters.hashes import require_imagehash
from datamodules.filters.limits import Filters
from datamodules.imports.entries import Plan, ReadOptions
from datamodules.imports.layouts import LayoutName, find_layout, plan_layout
from datamodules.imports.pool import finish_units
from datamodules.imports.splits import divide
from datamodules.imports.unit_files import Record, UnitFiles
from datamodules.imports.work import Job
from datamodules.shards.buckets import SIDE_MULTIPLE, BucketShape
from datamodules.shards.images import IMAGE_SUFFIXES
from datamodules.shards.losses import CropLosses
from datamodules.shards.report import BuildReport, progress_bar
from datamodules.shards.skips import SkipLog, SkippedImage
from datamodules.shards.sources import path_text
from datamodules.shards.writer import DatasetWriter
from pocketdit.bounds import MAX_SIDE
from pocketdit.errors import UserError

_FRACTION = 0.05  # fraction of the images that are held out by default
_FORMAT = 1  # version of the files that an interrupted build leaves behind


def build_dataset(
    source: Path,
    out: Path,
    *,
    layout: LayoutName | None = None,
    reading: ReadOptions | None = None,
    filters: Filters | None = None,
    validation_fraction: float | None = None,
    validation: Literal["held-out", "same"] = "held-out",
    max_side: int | None = None,
    base_size: int = 128,
    buckets: BucketShape = "aspect",
    max_crop: float | None = None,
    max_enlargement: float | None = None,
    workers: int = 1,
    overwrite: bool = False,
    progress: bool = True,
) -> BuildReport:
    """Build a data set from all captioned images of a source (see ``layouts``).

    Images that have no caption, cannot be decoded, or do not pass the filters are skipped and counted. If the source
    divides its images between training and validation, its splits are kept. Otherwise, a hash of the ID determines an
    image's split. At least one image is used for training. With two or more images and a fraction above 0, at least one
    image is held out. If the build is interrupted, the same call resumes it.

    Args:
        source: Folder or file.
        out: Folder of the data set.
        layout: Layout of the source. If None, the layout is detected.
        reading: How to read the source.
        filters: Which images to use.
        validation_fraction: Share of images that are held out, in [0, 1); defaults to 0.05. It does not apply if the
            source has splits.
        validation: "held-out" divides the images between the splits. "same" uses all images for both training and
            validation, which only shows whether a model memorizes a few images.
        max_side: Scale larger images down so that their longer side has this length.
        base_size: Base size of the buckets for which the report describes the losses from cropping and scaling.
        buckets: Shape of these buckets.
        max_crop: Skip images that lose more than this share of their area to cropping.
        max_enlargement: Skip images that are scaled up by more than this factor.
        workers: Number of processes.
        overwrite: Replace an existing data set.
        progress: Show a progress bar.

    Raises:
        UserError: The source does not exist or contains no usable image, ``out`` already contains a data set, or an
            argument is invalid.
        RunError: The data set cannot be written, or a process was killed.
    """
    reading, filters = reading or ReadOptions(), filters or Filters()
    _check(source, out, validation_fraction, max_side, base_size, workers)
    if filters.distance is not None:
        require_imagehash()
    found = find_layout(source, layout, exclude=out)
    plan = plan_layout(found.layout, reading)
    if plan.splits and (validation_fraction is not None or validation == "same"):
        raise UserError(f"validation: {plan.splits}; omit --validation, or build from one of these folders")
    fraction = _FRACTION if validation_fraction is None else validation_fraction
    losses = CropLosses(base_size, buckets)
    limits = (max_side, max_crop, max_enlargement)
    settings = [_FORMAT, str(source.resolve()), plan.description, reading, filters, fraction, validation]
    settings += [losses, limits]
    log = _Log(losses)
    log.skips.extend(found.skipped)
    with DatasetWriter(
        out,
        kind="image",
        name=path_text(Path(source.resolve().name)),
        source=path_text(source.resolve()),
        overwrite=overwrite,
        validation_is_train=validation == "same",
        resume_key=_resume_key(settings, plan),
    ) as writer:
        job = Job(writer.workspace, filters, losses, *limits)
        reclaim = _Reclaim(writer)
        with progress_bar(plan.total, progress, "B" if plan.counts_bytes else " images") as bar:
            kept = _keep(plan, job, workers, log, bar)
            for split, item in divide(kept, plan.splits is not None, validation, fraction):
                reclaim.enter(item.number)
                writer.add_when_needed(split, partial(item.files.read, item.record))
                reclaim.remove_stored()
        if not writer.added["train"]:
            raise _nothing_usable(source, plan, log.skips)
        writer.imported = {
            "layout": plan.description,
            "images": log.kept + log.skips.total,
            "left_out": dict(log.skips.by_rule.most_common()),
        }
    notes = [f"layout: {plan.description}", *([plan.splits] if plan.splits else [])]
    return BuildReport(
        out, writer.added["train"], writer.added["validation"], log.skips, [*notes, *log.notes(), *plan.notes()]
    )


def _check(source: Path, out: Path, fraction: float | None, max_side: int | None, base_size: int, workers: int) -> None:
    if out.resolve() == source.resolve():
        raise UserError(f"{out}: the data set cannot be written into the folder of the images; choose another folder")
    if fraction is not None and not 0 <= fraction < 1:
        raise UserError(f"validation fraction {fraction}: must be at least 0 and less than 1")
    if not SIDE_MULTIPLE <= base_size <= MAX_SIDE or base_size % SIDE_MULTIPLE:
        raise UserError(f"base size {base_size}: must be a multiple of {SIDE_MULTIPLE} up to {MAX_SIDE}")
    if max_side is not None and max_side < 1:
        raise UserError(f"max side {max_side}: must be at least 1 pixel")
    if workers < 1:
        raise UserError(f"workers {workers}: must be at least 1")


@dataclass(frozen=True)
class _Kept:
    """A sample that passed the filters.

    Attributes:
        number: Number of the sample's unit.
        files: The files of the unit.
        record: The record of the sample in these files.
    """

    number: int
    files: UnitFiles
    record: Record

    @property
    def position(self) -> float:
        return self.record.position

    @property
    def split(self) -> str | None:
        return self.record.split


@dataclass
class _Log:
    """Counts the images that are kept, are left out, lose area to cropping, or have several frames."""

    losses: CropLosses
    skips: SkipLog = field(default_factory=SkipLog)
    kept: int = 0
    _several_frames: int = 0
    _example: str = ""

    def add(self, record: Record) -> None:
        self.kept += 1
        self.losses.add(record.width, record.height, record.id)
        if record.frames > 1:
            self._several_frames += 1
            self._example = self._example or f"{record.id} with {record.frames}"

    def notes(self) -> list[str]:
        several = f"{self._several_frames} (such as {self._example})"
        frames = f"images with several frames, of which only the first is stored: {several}"
        return [self.losses.describe(), *([frames] if self._several_frames else [])]


class _Reclaim:
    """Removes the images of a unit after they have been written to shards, to save disk space."""

    def __init__(self, writer: DatasetWriter) -> None:
        self._writer, self._folder = writer, writer.workspace
        self._first = 0  # first unit whose images have not been removed
        self._ends: deque[tuple[int, dict[str, int]]] = deque()

    def enter(self, number: int) -> None:
        """Record that the next sample is from the given unit and that all samples of earlier units have been added."""
        if not self._ends or self._ends[-1][0] != number:
            self._ends.append((number, self._writer.added))

    def remove_stored(self) -> None:
        """Remove the images of units whose samples are all in finished shards."""
        stored = self._writer.stored
        while self._ends and all(stored[split] >= count for split, count in self._ends[0][1].items()):
            end, _ = self._ends.popleft()
            for number in range(self._first, end):
                UnitFiles(self._folder, number).remove_images()
            self._first = max(self._first, end)


def _keep(plan: Plan, job: Job, workers: int, log: _Log, bar: "tqdm[None]") -> Iterator[_Kept]:
    """Yield the usable samples of all units in order, and log the skipped images."""
    filters = job.filters
    duplicates = DuplicateIndex(filters.distance) if filters.duplicates is not None else None
    for number, unit in finish_units(plan.units(), job, workers):
        files = UnitFiles(job.folder, number)
        for record in files.records():
            entry = _without_duplicate(record, duplicates, filters)
            if isinstance(entry, SkippedImage):
                log.skips.add(entry)
            else:
                log.add(entry)
                yield _Kept(number, files, entry)
        bar.set_postfix_str(f"{log.kept} kept, {log.skips.total} left out", refresh=False)
        bar.update(unit.size)
    if duplicates is not None:
        duplicates.close()


def _without_duplicate(
    record: Record | SkippedImage, duplicates: DuplicateIndex | None, filters: Filters
) -> Record | SkippedImage:
    if isinstance(record, SkippedImage) or duplicates is None or record.hashes is None:
        return record
    original = duplicates.add(record.id, record.hashes)
    if original is None:
        return record
    rule = f"--drop-duplicates {filters.duplicates}"
    return SkippedImage(record.id, f"left out: {rule}: it looks like {original}", rule)


def _resume_key(settings: list[object], plan: Plan) -> str:
    """Return a hash of everything that determines the result. If a file changes, the build starts over."""
    digest = hashlib.sha256(repr(settings).encode(errors="surrogateescape"))
    for path in plan.files:
        status = path.stat()
        digest.update(json.dumps([str(path), status.st_size, status.st_mtime_ns]).encode())
    return digest.hexdigest()


def _nothing_usable(source: Path, plan: Plan, skips: SkipLog) -> UserError:
    count = plan.images if plan.images is not None else skips.total
    problem = f"none of the {count} images is usable for training" if count else "contains no image"
    suffixes = f"these formats are read: {' '.join(IMAGE_SUFFIXES)}"
    first = f"the first problem is: {skips.entries[0]}" if skips.entries else suffixes
    return UserError("; ".join([f"{source}: {problem}", first, *plan.notes()]))
