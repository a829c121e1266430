"""The layouts of ImageNet-1K: a folder of images for each class, or the official tars."""

import csv
import io
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from datamodules.imports.class_names import ClassNames
from datamodules.imports.entries import Entry, FilePart, Plan, ReadOptions, position_of, runs_of
from datamodules.imports.splits import describe_splits, splits_of_folders
from datamodules.shards.scan import BrokenShardError, scan_shard
from datamodules.shards.skips import SkippedImage
from datamodules.shards.sources import Listing, count_kinds, name_of, path_text
from pocketdit.errors import UserError

TRAIN_TAR, VALIDATION_TAR = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
_DEVKIT, _SOLUTION = "ILSVRC2012_devkit_t12.tar.gz", "LOC_val_solution.csv"
_TRUTH, _META = "ILSVRC2012_validation_ground_truth.txt", "meta.mat"


@dataclass(frozen=True)
class ClassFolders:
    """Image folders that are named after classes, either inside train/ and val/ or without splits."""

    listing: Listing


@dataclass(frozen=True)
class ImageNetTars:
    """The official tars of ImageNet-1K.

    Attributes:
        folder: The folder of the tars.
        train: The tar of the training images, which contains a tar for each class.
        validation: The tar of the validation images, or None.
        others: Other files in the folder, which may list the classes of the validation images.
    """

    folder: Path
    train: Path
    validation: Path | None
    others: tuple[Path, ...]


class _Found(NamedTuple):
    """An image in a class folder or in an official tar.

    Attributes:
        id: ID of the sample.
        content: The file or file part that contains the image.
        folder: Name of the image's class folder or tar, or "" if its class is listed in another file.
        stem: Name of the image file without its suffix.
        split: The image's split in the source, or None.
    """

    id: str
    content: Path | FilePart
    folder: str
    stem: str
    split: str | None


def plan_class_folders(layout: ClassFolders, options: ReadOptions) -> Plan:
    """Return a plan for reading class folders. Images are sorted by a hash of their IDs, so that classes are mixed.

    Raises:
        UserError: The class names or the classes of the validation images cannot be read.
    """
    listing = layout.listing
    splits = splits_of_folders(listing.images, listing.folder)
    images, left_out = [], 0
    for path in listing.images:
        folder = next((folder for folder in path.parents if folder in splits), None)
        if splits and (folder is None or splits[folder] is None):
            left_out += 1
            continue
        split = splits[folder] if folder else None
        is_flat = path.parent in (folder, listing.folder)
        images.append(
            _Found(name_of(path, listing.folder), path, "" if is_flat else path.parent.name, path.stem, split)
        )
    return _plan(
        images,
        options,
        description="class folders, as in ImageNet",
        others=tuple(listing.others),
        files=listing.images,
        splits=describe_splits(splits, listing.folder) if splits else None,
        left_out=left_out,
    )


def plan_imagenet_tars(layout: ImageNetTars, options: ReadOptions) -> Plan:
    """Return a plan for reading the official tars. Images are sorted by a hash of their IDs, so that classes are mixed.

    Raises:
        UserError: A tar, the class names, or the classes of the validation images cannot be read.
    """
    split = "train" if layout.validation else None
    images = [
        found
        for class_name, part in _members(_whole(layout.train), str(layout.train))
        for found in _images_of(layout.train, class_name, part, split)
    ]
    files = [layout.train]
    if layout.validation:
        for name, part in _members(_whole(layout.validation), str(layout.validation)):
            stem = PurePosixPath(name).name
            images.append(_Found(f"val/{path_text(Path(stem))}", part, "", stem, "validation"))
        files.append(layout.validation)
    return _plan(
        images,
        options,
        description=f"the official tars of ImageNet ({' and '.join(path.name for path in files)})",
        others=layout.others,
        files=files,
        splits="splits are the tars of the source: the training and the validation images" if split else None,
        left_out=0,
    )


def _plan(
    images: list[_Found],
    options: ReadOptions,
    *,
    description: str,
    others: tuple[Path, ...],
    files: list[Path],
    splits: str | None,
    left_out: int,
) -> Plan:
    names = ClassNames(options.class_names, options.template)
    labels, label_files = _read_labels(others) if any(not image.folder for image in images) else ({}, [])
    entries = [_entry(image, names, labels) for image in sorted(images, key=lambda image: position_of(image.id))]
    unused = [path for path in others if path not in label_files and path != options.class_names]

    def notes() -> list[str]:
        lines = [str(names)]
        lines += [f"images outside the splits, which are left out: {left_out}"] if left_out else []
        return lines + ([f"other files, which are not read: {len(unused)} ({count_kinds(unused)})"] if unused else [])

    return Plan(
        description=description,
        units=lambda: runs_of(entries),
        files=[*files, *label_files, *([options.class_names] if options.class_names else [])],
        images=len(images),
        total=len(images),
        splits=splits,
        notes=notes,
    )


def _entry(image: _Found, names: ClassNames, labels: Mapping[str, str]) -> Entry | SkippedImage:
    folder = image.folder or labels.get(image.stem)
    if folder is None:
        places = f"{_DEVKIT} or {_SOLUTION}"
        return SkippedImage(image.id, f"the class is unknown (move it to a class folder, or add {places})", "no class")
    caption = names.caption(folder)
    if caption is None:
        return SkippedImage(image.id, f"the class {folder} has no name", "no class")
    return Entry(image.id, image.content, (caption,), {"class": folder}, image.split)


def _images_of(tar: Path, class_name: str, part: FilePart, split: str | None) -> Iterator[_Found]:
    for name, image in _members(part, f"{tar}: {class_name}.tar"):
        stem = PurePosixPath(name).name
        yield _Found(f"train/{path_text(Path(class_name) / stem)}", image, class_name, stem, split)


def _members(part: FilePart, place: str) -> list[tuple[str, FilePart]]:
    """Return the name without suffix and the location of each member of a tar, which may be nested in another tar.

    Raises:
        UserError: The tar is damaged.
    """
    try:
        with part.path.open("rb") as file:
            groups = list(scan_shard(_Window(file, part.offset, part.length)))  # type: ignore[arg-type]
    except BrokenShardError as error:
        reason = f"cannot be read from byte {error.offset} onward ({error.reason})"
        raise UserError(f"{place}: {reason}; download it again") from error
    except OSError as error:
        raise UserError(f"{place}: cannot be read ({error.strerror})") from error
    return [
        (group.key, FilePart(part.path, part.offset + member.offset, member.size))
        for group in groups
        for member in group.members
    ]


def _whole(path: Path) -> FilePart:
    return FilePart(path, 0, path.stat().st_size)


class _Window(io.RawIOBase):
    """Presents a part of a file as a separate file."""

    def __init__(self, file: io.BufferedReader, offset: int, length: int) -> None:
        self._file, self._offset, self._length, self._position = file, offset, length, 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._length}[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, self._length - self._position)
        self._file.seek(self._offset + self._position)
        content = self._file.read(left if size is None or size < 0 else min(size, left))
        self._position += len(content)
        return content


def _read_labels(others: tuple[Path, ...]) -> tuple[dict[str, str], list[Path]]:
    """Return a mapping from the file stems of validation images to their classes, and the files that were read.

    Raises:
        UserError: A file cannot be read.
    """
    by_name = {path.name: path for path in others}
    if solution := by_name.get(_SOLUTION):
        return _read(solution, lambda: _read_solution(solution)), [solution]
    if devkit := by_name.get(_DEVKIT):
        return _read(devkit, lambda: _read_devkit(devkit)), [devkit]
    if (truth := by_name.get(_TRUTH)) and (meta := by_name.get(_META)):
        return _read(truth, lambda: _match(truth.read_bytes(), meta.read_bytes())), [truth, meta]
    return {}, []


def _read(path: Path, parse: Callable[[], dict[str, str]]) -> dict[str, str]:
    try:
        return parse()
    except Exception as error:  # SciPy and tarfile raise many types of exceptions for damaged files
        raise UserError(f"{path}: cannot be read as the classes of the validation images ({error})") from error


def _read_solution(path: Path) -> dict[str, str]:
    """Read Kaggle's table. Each row contains an image's name, and each object's class and bounding box."""
    with path.open(encoding="utf-8", newline="") as file:
        return {row["ImageId"]: row["PredictionString"].split()[0] for row in csv.DictReader(file)}


def _read_devkit(path: Path) -> dict[str, str]:
    contents = {}
    with tarfile.open(path, "r:gz") as archive:
        for info in archive:
            name = PurePosixPath(info.name).name
            if name in (_TRUTH, _META) and (file := archive.extractfile(info)) is not None:
                contents[name] = file.read()
    return _match(contents[_TRUTH], contents[_META])


def _match(truth: bytes, meta: bytes) -> dict[str, str]:
    """Combine the list of class numbers, one per image, with the table of classes. Return each image's WordNet ID."""
    from scipy.io import loadmat

    synsets = loadmat(io.BytesIO(meta), squeeze_me=True)["synsets"]
    names = {int(entry["ILSVRC2012_ID"]): str(entry["WNID"]) for entry in synsets if not entry["num_children"]}
    return {f"ILSVRC2012_val_{i:08d}": names[int(line)] for i, line in enumerate(truth.split(), start=1)}
