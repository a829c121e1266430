"""The layout of COCO: a JSON file of captions for each split, and folders of images."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from datamodules.captions.fields import clean_captions
from datamodules.imports.entries import Entry, Plan, ReadOptions, runs_of
from datamodules.shards.schema import SampleError
from datamodules.shards.skips import SkippedImage
from datamodules.shards.sources import is_file, name_of, split_of_folders
from pocketdit.errors import UserError

ANNOTATIONS = re.compile(r"captions[-_](.+)\.json")


@dataclass(frozen=True)
class Coco:
    """A folder of images with annotation files in the format of COCO captions.

    The ID of a sample is the path of the image relative to the folder.

    Attributes:
        folder: The folder of the images.
        annotations: The annotation files.
    """

    folder: Path
    annotations: tuple[Path, ...]


def plan_coco(layout: Coco, options: ReadOptions) -> Plan:
    """Return a plan for reading images with COCO captions.

    If annotation files are named after training and validation, they define the splits.

    Raises:
        UserError: An annotation file is damaged.
    """
    names = {path: _split_name(path) for path in layout.annotations}
    splits = split_of_folders(sorted(set(names.values())))
    used = [path for path in layout.annotations if not splits or splits.get(names[path]) is not None]
    entries = [entry for path in used for entry in _read(path, layout.folder, splits.get(names[path]))]
    images = len(entries)
    left_out = [path for path in layout.annotations if path not in used]
    uses = [f"{name_of(path, layout.folder)} for {splits.get(names[path])}" for path in used]
    return Plan(
        description=f"COCO captions ({', '.join(name_of(path, layout.folder) for path in layout.annotations)})",
        units=lambda: runs_of(entries),
        files=used,
        images=images,
        total=images,
        splits=f"splits are the annotation files of the source: {', '.join(uses)}" if splits else None,
        notes=lambda: [f"{name_of(path, layout.folder)} is not read: it belongs to another split" for path in left_out],
    )


def _split_name(path: Path) -> str:
    match = ANNOTATIONS.fullmatch(path.name)
    return match[1] if match else path.stem


def _read(path: Path, folder: Path, split: str | None) -> Iterator[Entry | SkippedImage]:
    """Yield the images of an annotation file, sorted by file name."""
    try:
        content = json.loads(path.read_bytes())
        captions: dict[Any, list[object]] = {}
        for annotation in content["annotations"]:
            captions.setdefault(annotation["image_id"], []).append(annotation["caption"])
        images = sorted(
            (str(image["file_name"]), image["id"], str(image.get("coco_url", ""))) for image in content["images"]
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"the key {error} is missing" if isinstance(error, KeyError) else str(error)
        raise UserError(f"{path}: cannot be read as COCO captions ({reason})") from error
    for file_name, number, address in images:
        image = _find(file_name, address, path, folder)
        if image is None:
            yield SkippedImage(f"{path.name}: {file_name}", "the image file does not exist", "missing file")
            continue
        identity = name_of(image, folder)
        try:
            texts = clean_captions(captions.get(number, []))
        except SampleError as error:
            yield SkippedImage(identity, str(error), "no caption")
            continue
        if texts:
            yield Entry(identity, image, tuple(dict.fromkeys(texts)), split=split)
        else:
            yield SkippedImage(identity, f"{path.name} contains no caption for the image", "no caption")


def _find(file_name: str, address: str, annotations: Path, folder: Path) -> Path | None:
    """Return the path of an image file, or None if the file does not exist.

    The file can be in a folder whose name appears in the annotation file's name or in the image's address, in
    ``folder``, or next to the annotation file.
    """
    parts = urlparse(address).path.split("/")
    named = [_split_name(annotations), *parts[-2:-1]]
    places = [folder / prefix / name for name in named if name for prefix in ("", "images")]
    places += [folder, folder / "images", annotations.parent]
    return next((place / file_name for place in places if is_file(place / file_name)), None)
