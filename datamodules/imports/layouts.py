"""Recognizes the layout of a source, and plans how to read it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple, assert_never, get_args

from datamodules.imports.caption_files import find_tables
from datamodules.imports.class_names import is_synset
from datamodules.imports.coco import ANNOTATIONS, Coco, plan_coco
from datamodules.imports.entries import Plan, ReadOptions
from datamodules.imports.image_folder import ImageFolder, plan_image_folder
from datamodules.imports.imagenet import (
    TRAIN_TAR,
    VALIDATION_TAR,
    ClassFolders,
    ImageNetTars,
    plan_class_folders,
    plan_imagenet_tars,
)
from datamodules.imports.parquet import ParquetFiles, image_column, plan_parquet
from datamodules.imports.path_table import PathTable, plan_path_table
from datamodules.imports.tables import TABLE_SUFFIXES
from datamodules.imports.tars import Tars, plan_tars
from datamodules.shards.skips import SkippedImage
from datamodules.shards.sources import Listing, list_folder
from pocketdit.errors import ConfigError, UserError

LayoutName = Literal["folder", "tars", "parquet", "coco", "imagenet", "table"]
LAYOUTS: tuple[LayoutName, ...] = get_args(LayoutName)
Layout = ImageFolder | Tars | ParquetFiles | Coco | ClassFolders | ImageNetTars | PathTable

# For each field of ``ReadOptions``, its command-line option and the layouts to which it applies.
_APPLIES: dict[str, tuple[str, tuple[LayoutName, ...]]] = {
    "captions": ("--captions", ("folder",)),
    "captions_per_line": ("--captions-per-line", ("folder", "tars")),
    "default_caption": ("--default-caption", ("folder",)),
    "image_field": ("--image-field", ("tars", "parquet", "table")),
    "caption_fields": ("--caption-field", ("tars", "parquet", "table")),
    "class_names": ("--class-names", ("imagenet",)),
    "template": ("--template", ("imagenet",)),
}


class Source(NamedTuple):
    """A source whose layout is known.

    Attributes:
        layout: The layout.
        skipped: Folders and other entries that cannot be read.
    """

    layout: Layout
    skipped: Sequence[SkippedImage]


def find_layout(source: Path, name: LayoutName | None, exclude: Path | None = None) -> Source:
    """Recognize the layout of a source.

    Args:
        source: Folder or file.
        name: The layout to use. If None, the layout is detected.
        exclude: A folder to ignore, for example because it contains the output.

    Raises:
        UserError: The source does not exist, cannot be read, has no known layout, has several layouts while ``name`` is
            None, or does not have the requested layout.
    """
    if source.is_file():
        return Source(_layout_of_file(source, name), ())
    if not source.is_dir():
        raise UserError(f"{source}: no such folder")
    listing = list_folder(source, exclude)
    detected = _detect(listing) if name is None else [name]
    if len(detected) > 1:
        raise UserError(f"{source}: contains data in several layouts; choose one with --layout: {', '.join(detected)}")
    return Source(_layout_of_folder(listing, detected[0]), listing.skipped)


def plan_layout(layout: Layout, options: ReadOptions) -> Plan:
    """Return a plan for reading a source.

    Raises:
        UserError: The source is damaged.
        ConfigError: An option does not apply to the layout.
    """
    name = layout_name(layout)
    for option, (flag, layouts) in _APPLIES.items():
        if getattr(options, option) and name not in layouts:
            raise ConfigError(f"{flag} applies only to the layout {' or '.join(layouts)}, not to {name}")
    match layout:
        case ImageFolder():
            return plan_image_folder(layout, options)
        case Tars():
            return plan_tars(layout, options)
        case ParquetFiles():
            return plan_parquet(layout, options)
        case Coco():
            return plan_coco(layout, options)
        case ClassFolders():
            return plan_class_folders(layout, options)
        case ImageNetTars():
            return plan_imagenet_tars(layout, options)
        case PathTable():
            return plan_path_table(layout, options)
        case _:
            assert_never(layout)


def layout_name(layout: Layout) -> LayoutName:
    """Return the value of --layout that selects a layout."""
    match layout:
        case ImageFolder():
            return "folder"
        case Tars():
            return "tars"
        case ParquetFiles():
            return "parquet"
        case Coco():
            return "coco"
        case ClassFolders() | ImageNetTars():
            return "imagenet"
        case PathTable():
            return "table"
        case _:
            assert_never(layout)


def _detect(listing: Listing) -> list[LayoutName]:
    """Return the layouts that are detected in a folder, or "folder" if there are none."""
    names: list[LayoutName] = []
    if any(path.name in (TRAIN_TAR, VALIDATION_TAR) for path in listing.others):
        return ["imagenet"]
    if _with_suffix(listing, ".tar"):
        names.append("tars")
    if (parquet := _parquet_files(listing)) and image_column(parquet[0]) is not None:
        names.append("parquet")
    if _annotations(listing):
        names.append("coco")
    elif any(is_synset(path.parent.name) for path in listing.images):
        names.append("imagenet")
    elif listing.images or not names:
        names.append("folder")
    return names


def _layout_of_folder(listing: Listing, name: LayoutName) -> Layout:
    folder, others = listing.folder, listing.others
    match name:
        case "folder":
            return ImageFolder(listing)
        case "tars":
            tars = _require(_with_suffix(listing, ".tar"), folder, ".tar file")
            return Tars(folder, tars, _without(others, tars))
        case "parquet":
            parquet = _require(_parquet_files(listing), folder, ".parquet file")
            return ParquetFiles(folder, parquet, _without(others, parquet))
        case "coco":
            return Coco(folder, _require(_annotations(listing), folder, "captions_*.json"))
        case "imagenet":
            tars_by_name = {path.name: path for path in others}
            if TRAIN_TAR not in tars_by_name:
                return ClassFolders(listing)
            train, validation = tars_by_name[TRAIN_TAR], tars_by_name.get(VALIDATION_TAR)
            return ImageNetTars(folder, train, validation, _without(others, (train, validation)))
        case "table":
            raise UserError(f"{folder}: is a folder; with --layout table, pass the path of the table itself")
        case _:
            assert_never(name)


def _layout_of_file(path: Path, name: LayoutName | None) -> Layout:
    """Return the layout of a single file.

    Raises:
        UserError: The file cannot be read, or its layout is unknown or is not the requested layout.
    """
    suffix = path.suffix.lower()
    layout: Layout
    if suffix == ".tar":
        beside = path.with_suffix(".parquet")
        layout = Tars(path.parent, (path,), (beside,) if beside.is_file() else ())
    elif suffix == ".parquet" and name != "table" and (name == "parquet" or image_column(path) is not None):
        layout = ParquetFiles(path.parent, (path,))
    elif suffix in TABLE_SUFFIXES:
        layout = PathTable(path)
    elif suffix == ".json":
        layout = Coco(path.parent.parent if path.parent.name == "annotations" else path.parent, (path,))
    else:
        raise UserError(f"{path}: not a folder, .tar, .json (COCO captions), or table ({' '.join(TABLE_SUFFIXES)})")
    if name is not None and layout_name(layout) != name:
        raise UserError(f"{path}: has the layout {layout_name(layout)}, not {name}; omit --layout")
    return layout


def _with_suffix(listing: Listing, suffix: str) -> tuple[Path, ...]:
    return tuple(path for path in listing.others if path.suffix.lower() == suffix)


def _parquet_files(listing: Listing) -> tuple[Path, ...]:
    """Return the Parquet files that are not caption tables and have no tar of the same name next to them."""
    tables = set(find_tables(listing.others))
    known = set(listing.others)
    candidates = _with_suffix(listing, ".parquet")
    return tuple(path for path in candidates if path not in tables and path.with_suffix(".tar") not in known)


def _annotations(listing: Listing) -> tuple[Path, ...]:
    """Return COCO's annotation files. A JSON file next to an image of the same name is a caption file instead."""
    stems = {path.with_suffix("") for path in listing.images}
    found = (path for path in listing.others if ANNOTATIONS.fullmatch(path.name))
    return tuple(path for path in found if path.with_suffix("") not in stems)


def _without(paths: list[Path], others: tuple[Path | None, ...]) -> tuple[Path, ...]:
    known = set(others)
    return tuple(path for path in paths if path not in known)


def _require(paths: tuple[Path, ...], folder: Path, what: str) -> tuple[Path, ...]:
    if not paths:
        raise UserError(f"{folder}: contains no {what}")
    return paths
