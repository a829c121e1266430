"""Converts a folder of user-provided images of any size and format into samples."""

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from datamodules.shards.caption_lookup import CaptionLookup
from datamodules.shards.images import ImageError, open_image
from datamodules.shards.losses import CropLosses
from datamodules.shards.schema import Sample, SampleError
from datamodules.shards.sources import Listing, SkippedImage, count_kinds, name_of, split_of_folders

_KEPT_FORMATS = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp"}


@dataclass(frozen=True)
class Candidate:
    """An image with captions.

    Attributes:
        id: Path of the image relative to the folder.
        path: Path of the image.
        captions: One or more captions.
        position: A hash of the ID in [0, 1), which determines the split.
        split: The split of the user's own folder that contains the image, or None if there are no such folders.
    """

    id: str
    path: Path
    captions: tuple[str, ...]
    position: float
    split: str | None = None


def find_candidates(listing: Listing, captions: CaptionLookup) -> Iterator[Candidate | SkippedImage]:
    """Yield every image with its captions, and then everything else that was expected to be an image."""
    splits = own_splits(listing)
    for path in listing.images:
        name = name_of(path, listing.folder)
        folder = next((folder for folder in path.parents if folder in splits), None)
        split = splits[folder] if folder else None
        if splits and split is None:
            used = " and ".join(f"{name_of(used, listing.folder)}/" for used in splits if splits[used])
            yield SkippedImage(name, f"left out: outside of {used}")
            continue
        try:
            yield Candidate(name, path, captions.captions_of(path), _position(name), split)
        except SampleError as error:
            yield SkippedImage(name, str(error))
    yield from captions.unknown_images(listing.images)
    yield from listing.skipped


def own_splits(listing: Listing) -> dict[Path, str | None]:
    """Return the splits of the user's own folders for training and validation, by the path of the folder.

    The folders may be at any depth, as in images/train and images/val (see ``split_of_folders``).
    """
    names_in: dict[Path, set[str]] = {}
    for image in listing.images:
        for folder in image.parents:
            if folder == listing.folder:
                break
            names_in.setdefault(folder.parent, set()).add(folder.name)
    splits: dict[Path, str | None] = {}
    for parent, names in sorted(names_in.items(), key=lambda item: len(item[0].parts)):
        if not splits.keys() & {parent, *parent.parents}:
            splits |= {parent / name: split for name, split in split_of_folders(sorted(names)).items()}
    return splits


def describe_splits(splits: dict[Path, str | None], source: Path) -> str:
    """Describe the splits of the user's own folders in one line."""
    uses = {"train": "for training", "validation": "for validation", None: "is left out"}
    parts = [f"{name_of(folder, source)}/ {uses[split]}" for folder, split in splits.items()]
    return f"splits are the folders of the source: {', '.join(parts)}"


def describe_unused(listing: Listing, captions: CaptionLookup) -> list[str]:
    """Note the files that are neither images nor captions of one."""
    unused = [path for path in listing.others if path not in captions.used]
    notes = [f"other files, which are not read: {len(unused)} ({count_kinds(unused)})"] if unused else []
    tables = [name_of(path, listing.folder) for path in unused if path.suffix.lower() in (".csv", ".tsv", ".jsonl")]
    if tables:
        notes.append(f"{tables[0]} is not read as a caption table because of its name (--captions names a table)")
    if listing.hidden:
        notes.append(f"files and folders that are not read because their names start with a dot: {listing.hidden}")
    return notes


@dataclass
class ImageLoader:
    """Loads samples, and counts what is lost.

    Attributes:
        skipped: Receives the images that cannot be used.
        max_side: See ``build_folder``.
        losses: Receives the losses.
        max_crop: See ``build_folder``.
        max_enlargement: See ``build_folder``.
    """

    skipped: list[SkippedImage]
    max_side: int | None
    losses: CropLosses
    max_crop: float | None
    max_enlargement: float | None
    _several_frames: list[str] = field(default_factory=list, init=False)

    def load(self, candidates: list[Candidate], bar: "tqdm[None]") -> Iterator[tuple[Candidate, Sample]]:
        """Yield the sample of each image that decodes and is within the limits."""
        for candidate in candidates:
            try:
                sample, frames = load_image(candidate, self.max_side)
                size = sample.width, sample.height
                if reason := self.losses.excess(*size, self.max_crop, self.max_enlargement):
                    raise SampleError(reason)
                self.losses.add(*size, candidate.id)
                if frames > 1:
                    self._several_frames.append(f"{candidate.id} with {frames}")
                yield candidate, sample
            except SampleError as error:
                self.skipped.append(SkippedImage(candidate.id, str(error)))
            bar.update()

    def notes(self) -> list[str]:
        """Describe what was lost."""
        notes = [self.losses.describe()]
        if several := self._several_frames:
            notes.append(
                f"images with several frames, of which only the first is stored: {len(several)} (such as {several[0]})"
            )
        return notes


def load_image(candidate: Candidate, max_side: int | None = None) -> tuple[Sample, int]:
    """Load an image as a sample, keeping its original bytes if possible, and return its number of frames or pages, too.

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
    sample = Sample(candidate.id, candidate.captions, image.width, image.height, content, extension)
    return sample, opened.frames


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
