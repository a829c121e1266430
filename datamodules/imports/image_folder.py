"""The layout of a folder of images, with a caption file next to each image or with caption tables."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from datamodules.imports.caption_lookup import CaptionLookup
from datamodules.imports.entries import Entry, Plan, ReadOptions, position_of, runs_of
from datamodules.imports.splits import describe_splits, splits_of_folders
from datamodules.shards.schema import SampleError
from datamodules.shards.skips import SkippedImage
from datamodules.shards.sources import Listing, count_kinds, name_of


@dataclass(frozen=True)
class ImageFolder:
    """A folder that contains images, possibly in subfolders. An image's ID is its path relative to the folder."""

    listing: Listing


def plan_image_folder(layout: ImageFolder, options: ReadOptions) -> Plan:
    """Return a plan for reading a folder of images, sorted by a hash of their IDs.

    Captions are read from a .txt or .json file next to each image, or from tables (see ``CaptionLookup``). Subfolders
    for training and for validation or tests, such as train/ and val/, define the splits.

    Raises:
        UserError: A table is invalid.
    """
    listing = layout.listing
    lookup = CaptionLookup(
        listing,
        table=options.captions,
        per_line=options.captions_per_line,
        keep_columns=bool(options.columns),
        default=options.default_caption,
    )
    splits = splits_of_folders(listing.images, listing.folder)
    entries = list(_entries(listing, lookup, splits))
    images = [entry for entry in entries if isinstance(entry, Entry)]
    skipped = [entry for entry in entries if isinstance(entry, SkippedImage)]
    ordered: list[Entry | SkippedImage] = [*skipped, *sorted(images, key=lambda entry: position_of(entry.id))]

    return Plan(
        description="a folder of images",
        units=lambda: runs_of(ordered),
        files=[*listing.images, *sorted(lookup.used)],
        images=len(listing.images),
        total=len(ordered),
        splits=describe_splits(splits, listing.folder) if splits else None,
        notes=lambda: [*lookup.notes(), *_describe_unused(listing, lookup)],
    )


def _entries(listing: Listing, lookup: CaptionLookup, splits: dict[Path, str | None]) -> Iterator[Entry | SkippedImage]:
    """Yield every image with its captions, followed by the images that are listed in tables but do not exist."""
    for path in listing.images:
        name = name_of(path, listing.folder)
        folder = next((folder for folder in path.parents if folder in splits), None)
        split = splits[folder] if folder else None
        if splits and split is None:
            used = " and ".join(f"{name_of(used, listing.folder)}/" for used in splits if splits[used])
            yield SkippedImage(name, f"left out: outside {used}", "outside the splits")
            continue
        try:
            found = lookup.find(path)
            yield Entry(name, path, found.captions, found.columns, split)
        except SampleError as error:
            yield SkippedImage(name, str(error), "no caption")
    yield from lookup.unknown_images(listing.images)


def _describe_unused(listing: Listing, lookup: CaptionLookup) -> list[str]:
    """Return lines for the report about files that are used neither as images nor as captions."""
    unused = [path for path in listing.others if path not in lookup.used]
    notes = [f"other files, which are not read: {len(unused)} ({count_kinds(unused)})"] if unused else []
    tables = [name_of(path, listing.folder) for path in unused if path.suffix.lower() in (".csv", ".tsv", ".jsonl")]
    if tables:
        notes.append(
            f"{tables[0]} is not read as a caption table because of its name (specify caption tables with --captions)"
        )
    if listing.hidden:
        notes.append(f"files and folders that are not read because their names start with a dot: {listing.hidden}")
    return notes
