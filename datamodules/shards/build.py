"""Builds data sets from folders of user-provided images."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from datamodules.shards.buckets import SIDE_MULTIPLE, BucketShape
from datamodules.shards.caption_lookup import CaptionLookup
from datamodules.shards.image_folder import (
    Candidate,
    ImageLoader,
    describe_splits,
    describe_unused,
    find_candidates,
    own_splits,
)
from datamodules.shards.images import IMAGE_SUFFIXES
from datamodules.shards.latents import describe_autoencoder, encode_sample
from datamodules.shards.losses import CropLosses
from datamodules.shards.schema import SPLITS, Sample
from datamodules.shards.sources import Listing, SkippedImage, describe_skipped, list_folder, path_text
from datamodules.shards.writer import DatasetWriter
from pocketdit.bounds import MAX_SIDE
from pocketdit.encoders.contract import Autoencoder
from pocketdit.errors import UserError

_FRACTION = 0.05  # of the images that are held out


@dataclass(frozen=True)
class BuildReport:
    """The result of a build.

    Attributes:
        path: Folder of the data set.
        train: Number of training samples.
        validation: Number of validation samples.
        skipped: Images that could not be used.
        notes: What else was left out or changed, and what looks like a mistake.
    """

    path: Path
    train: int
    validation: int
    skipped: list[SkippedImage] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"note: {note}" for note in self.notes]
        skipped = f", {len(self.skipped)} skipped" if self.skipped else ""
        summary = f"{path_text(self.path)}: {self.train} train, {self.validation} validation samples{skipped}"
        return "\n".join([*describe_skipped(self.skipped), *lines, summary])


def build_folder(
    source: Path,
    out: Path,
    *,
    captions: Path | None = None,
    captions_per_line: bool = False,
    validation_fraction: float | None = None,
    validation: Literal["held-out", "same"] = "held-out",
    max_side: int | None = None,
    autoencoder: Autoencoder | None = None,
    base_size: int = 128,
    buckets: BucketShape = "aspect",
    max_crop: float | None = None,
    max_enlargement: float | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> BuildReport:
    """Build a data set of all captioned images in a folder and its subfolders, including linked ones.

    Captions come from a .txt or .json file next to each image, or from tables (see ``CaptionLookup``). Images that have
    no caption or cannot be decoded are skipped. An image's ID is its path relative to ``source``.

    If ``source`` contains folders for training and for validation or tests, such as train/ and val/, these are the
    splits. Otherwise, a hash of the ID determines an image's split. At least one image is used for training. With two
    or more images and a fraction above 0, at least one image is held out.

    Args:
        source: Folder of the images.
        out: Folder of the data set.
        captions: Caption table to use instead of any other captions.
        captions_per_line: Make each line of a .txt file a caption, instead of the whole file.
        validation_fraction: Share of images that are held out, in [0, 1); defaults to 0.05. It does not apply if the
            source's own folders are the splits.
        validation: "held-out" divides the images between the splits. "same" uses all images for both training and
            validation, which only shows whether a model memorizes a few images.
        max_side: Scale larger images down so that their longer side has this length.
        autoencoder: Store latents of this autoencoder instead of images.
        base_size: Base size of the buckets to which images are cropped before encoding, and for which the report says
            how much cropping and scaling throw away.
        buckets: Shape of these buckets.
        max_crop: Skip images of which cropping removes more than this share of the area.
        max_enlargement: Skip images that are scaled up more than this factor.
        overwrite: Replace an existing data set.
        progress: Show a progress bar.

    Raises:
        UserError: The folder does not exist or contains no usable image, ``out`` already contains a data set, or an
            argument is invalid.
    """
    _check_folder(source, out, validation_fraction, max_side, base_size)
    listing = list_folder(source, exclude=out)
    lookup = CaptionLookup(listing, table=captions, per_line=captions_per_line)
    candidates, skipped = _find_candidates(listing, lookup)
    splits = own_splits(listing)
    if splits and (validation_fraction is not None or validation == "same"):
        raise UserError(
            f"validation: {describe_splits(splits, source)}; leave --validation out, or build from one of these folders"
        )
    loader = ImageLoader(skipped, max_side, CropLosses(base_size, buckets), max_crop, max_enlargement)
    counts: dict[str, int] = dict.fromkeys(SPLITS, 0)
    with (
        DatasetWriter(
            out,
            kind="image" if autoencoder is None else "latent",
            name=path_text(Path(source.resolve().name)),
            source=path_text(source.resolve()),
            autoencoder=None if autoencoder is None else describe_autoencoder(autoencoder, base_size, buckets),
            overwrite=overwrite,
            validation_is_train=validation == "same",
        ) as writer,
        progress_bar(len(candidates), progress) as bar,
    ):
        samples = loader.load(candidates, bar)
        if splits:
            assigned = _keep_splits(samples)
        elif validation == "same":
            assigned = _repeat_in_both(samples)
        else:
            assigned = _hold_out(samples, _FRACTION if validation_fraction is None else validation_fraction)
        for split, sample in assigned:
            writer.add(split, encode_sample(sample, autoencoder, base_size, buckets) if autoencoder else sample)
            counts[split] += 1
        if not counts["train"]:
            raise _no_usable_image(listing, lookup, skipped)
    notes = [describe_splits(splits, source)] if splits else []
    notes += [*loader.notes(), *lookup.notes(), *describe_unused(listing, lookup)]
    return BuildReport(out, counts["train"], counts["validation"], skipped, notes)


def _check_folder(source: Path, out: Path, fraction: float | None, max_side: int | None, base_size: int) -> None:
    if not source.is_dir():
        raise UserError(f"{source}: no such folder")
    if out.resolve() == source.resolve():
        raise UserError(f"{out}: the data set cannot be written into the folder of the images; choose another folder")
    if fraction is not None and not 0 <= fraction < 1:
        raise UserError(f"validation fraction {fraction}: must be at least 0 and less than 1")
    if not SIDE_MULTIPLE <= base_size <= MAX_SIDE or base_size % SIDE_MULTIPLE:
        raise UserError(f"base size {base_size}: must be a multiple of {SIDE_MULTIPLE} up to {MAX_SIDE}")
    if max_side is not None and max_side < 1:
        raise UserError(f"max side {max_side}: must be at least 1 pixel")


def _find_candidates(listing: Listing, captions: CaptionLookup) -> tuple[list[Candidate], list[SkippedImage]]:
    """Return the candidates sorted by position, and the images without captions."""
    entries = list(find_candidates(listing, captions))
    skipped = [entry for entry in entries if isinstance(entry, SkippedImage)]
    candidates = [entry for entry in entries if isinstance(entry, Candidate)]
    if not candidates:
        raise _no_usable_image(listing, captions, skipped)
    return sorted(candidates, key=lambda candidate: candidate.position), skipped


def _no_usable_image(listing: Listing, captions: CaptionLookup, skipped: list[SkippedImage]) -> UserError:
    count = len(listing.images)
    problem = f"none of the {count} images is usable for training" if count else "contains no image"
    first = [f"the first problem is: {skipped[0]}"] if skipped else [f"these are read: {' '.join(IMAGE_SUFFIXES)}"]
    return UserError("; ".join([f"{listing.folder}: {problem}", *first, *describe_unused(listing, captions)]))


def _keep_splits(samples: Iterator[tuple[Candidate, Sample]]) -> Iterator[tuple[str, Sample]]:
    for candidate, sample in samples:
        assert candidate.split is not None
        yield candidate.split, sample


def _repeat_in_both(samples: Iterator[tuple[Candidate, Sample]]) -> Iterator[tuple[str, Sample]]:
    for _, sample in samples:
        yield "train", sample
        yield "validation", sample


def _hold_out(samples: Iterator[tuple[Candidate, Sample]], fraction: float) -> Iterator[tuple[str, Sample]]:
    """Assign samples, sorted by position, to splits.

    The last sample is always used for training. If there are others and the fraction is not 0, the first sample is held
    out even if its position is above the fraction.
    """
    previous: tuple[Candidate, Sample] | None = None
    is_first = True
    for current in samples:
        if previous is not None:
            held_out = fraction > 0 and (is_first or previous[0].position < fraction)
            yield "validation" if held_out else "train", previous[1]
            is_first = False
        previous = current
    if previous is not None:
        yield "train", previous[1]


def progress_bar(total: int, progress: bool) -> "tqdm[None]":
    """Return a progress bar for ``total`` samples, which shows nothing if ``progress`` is false."""
    return tqdm(total=total, desc="building", unit=" samples", smoothing=0.05, disable=not progress)
