"""Options of ``lightning data build`` and ``lightning data index`` for the user's own images.

Modules that are slow to import are imported inside functions.
"""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocketdit.errors import ConfigError

if TYPE_CHECKING:
    from datamodules.filters.limits import Filters
    from datamodules.imports.entries import ReadOptions

LAYOUTS = ("folder", "tars", "parquet", "coco", "imagenet", "table")
IMPORT_OPTIONS = (
    "layout",
    "captions",
    "captions_per_line",
    "default_caption",
    "image_field",
    "caption_field",
    "class_names",
    "template",
    "max_side",
    "max_crop",
    "max_enlargement",
    "min_side",
    "max_aspect",
    "min_pixels",
    "max_pixels",
    "min_words",
    "max_words",
    "where",
    "drop_duplicates",
    "workers",
)


def add_import_options(build: argparse.ArgumentParser) -> None:
    """Add the options for the user's own images to ``lightning data build``."""
    source = build.add_argument_group("reading your own images")
    source.add_argument(
        "--layout",
        choices=LAYOUTS,
        help="layout of the source: a folder of images, tars (WebDataset, img2dataset), Parquet with images, COCO "
        "captions, ImageNet (class folders or the official tars), or a table of paths (default: detect the layout)",
    )
    source.add_argument(
        "--captions",
        type=Path,
        metavar="TABLE",
        help="folder only: read all captions from this table (.csv, .tsv, .jsonl or .parquet) instead",
    )
    source.add_argument(
        "--captions-per-line",
        action="store_true",
        help="folder and tars: treat each line of a .txt file as a separate caption",
    )
    source.add_argument(
        "--default-caption",
        metavar="TEXT",
        help="folder only: caption for images without one, such as a new word for fine-tuning (default: skip such "
        "images)",
    )
    source.add_argument(
        "--image-field",
        metavar="NAME",
        help="tars, Parquet and tables: the member or column that contains the image or its path, such as png or "
        "input.jpg",
    )
    source.add_argument(
        "--caption-field",
        metavar="NAME[:KEY]",
        action="append",
        help="tars, Parquet and tables: a member or column with captions, such as prompt.txt, or a key inside it, "
        "such as json:long_caption; can be repeated, with the short captions first",
    )
    source.add_argument(
        "--class-names",
        type=Path,
        metavar="FILE",
        help="ImageNet only: file of class names, either lines such as 'n01440764 tench' or a JSON object (default: "
        "the names of the ImageNet-1K classes, or the names of the folders)",
    )
    source.add_argument(
        "--template", help='ImageNet only: caption, with {} in place of the class name (default: "a photo of a {}")'
    )
    source.add_argument(
        "--max-side", type=int, help="scale down images whose longer side exceeds this number of pixels"
    )
    add_workers(source)
    filters = build.add_argument_group("filters for your own images (the report counts what each filter leaves out)")
    add_size_filters(filters)
    filters.add_argument("--min-words", type=int, metavar="WORDS", help="remove captions with fewer words than this")
    filters.add_argument("--max-words", type=int, metavar="WORDS", help="remove captions with more words than this")
    add_where(filters)
    filters.add_argument(
        "--drop-duplicates",
        metavar="exact|BITS",
        help="leave out an image if its pixels are identical to those of an earlier image (exact), or if its 64-bit "
        "perceptual hash differs from an earlier hash in at most BITS bits (0 to 15; 3 is cautious)",
    )


def add_workers(group: "argparse._ActionsContainer") -> None:
    """Add the option ``--workers``."""
    group.add_argument("--workers", type=int, help="number of processes (default: one per CPU core)")


def add_size_filters(filters: "argparse._ActionsContainer") -> None:
    """Add the options that exclude images because of their size or shape."""
    filters.add_argument("--min-side", type=int, metavar="PIXELS", help="minimum length of the shorter side")
    filters.add_argument(
        "--max-aspect", type=float, metavar="RATIO", help="maximum ratio of the longer to the shorter side"
    )
    filters.add_argument("--min-pixels", type=int, metavar="PIXELS", help="minimum number of pixels")
    filters.add_argument("--max-pixels", type=int, metavar="PIXELS", help="maximum number of pixels")
    filters.add_argument(
        "--max-crop",
        type=float,
        help="exclude images that would lose more than this fraction of their area to cropping",
    )
    filters.add_argument(
        "--max-enlargement", type=float, help="exclude images that would be enlarged by more than this factor"
    )


def add_where(filters: "argparse._ActionsContainer") -> None:
    """Add the option ``--where``."""
    filters.add_argument(
        "--where",
        metavar="CONDITION",
        action="append",
        help="use only images whose columns or JSON keys satisfy this condition, such as "
        "'aesthetic > 5.5 and lang == \"en\"'; can be repeated",
    )


def check_import_options(args: argparse.Namespace) -> None:
    """Check that the values of the options are valid.

    Raises:
        ConfigError: A number is out of range, a minimum is above the maximum, or the default caption is empty.
    """
    at_least_one = (lambda value: value >= 1, "at least 1")
    caption = getattr(args, "default_caption", None)  # ``data index`` has only some of the options
    if caption is not None and not caption.strip():
        raise ConfigError("--default-caption: must contain text")
    checks: dict[str, tuple[Callable[[float], bool], str]] = {
        **dict.fromkeys(("min_side", "min_pixels", "max_pixels", "min_words", "max_words", "workers"), at_least_one),
        "max_aspect": (lambda value: 1 <= value < float("inf"), "at least 1"),
    }
    for option, (is_valid, requirement) in checks.items():
        value = getattr(args, option, None)
        if value is not None and not is_valid(value):
            raise ConfigError(f"--{option.replace('_', '-')} {value}: must be {requirement}")
    for quantity in ("pixels", "words"):
        low, high = getattr(args, f"min_{quantity}", None), getattr(args, f"max_{quantity}", None)
        if low is not None and high is not None and low > high:
            raise ConfigError(f"--min-{quantity} {low}: must not exceed --max-{quantity} {high}")


def reading_of(args: argparse.Namespace, filters: "Filters") -> "ReadOptions":
    """Return the options for reading the source.

    Raises:
        ConfigError: The value of an option is invalid.
    """
    from datamodules.captions.fields import parse_field
    from datamodules.imports.entries import ReadOptions

    caption = getattr(args, "default_caption", None)
    image = None if args.image_field is None else parse_field(args.image_field, "--image-field")
    if image is not None and image.keys:
        raise ConfigError(f"--image-field {args.image_field}: an image cannot be stored under a key; leave out the key")
    return ReadOptions(
        captions=getattr(args, "captions", None),
        captions_per_line=args.captions_per_line,
        default_caption=None if caption is None else " ".join(caption.split()),
        image_field=image,
        caption_fields=tuple(parse_field(text, "--caption-field") for text in args.caption_field or ()),
        columns=filters.columns,
        class_names=getattr(args, "class_names", None),
        template=getattr(args, "template", None),
    )


def filters_of(args: argparse.Namespace) -> "Filters":
    """Return the filters that select the images to use.

    Raises:
        ConfigError: The value of an option is invalid.
    """
    from datamodules.filters.limits import Filters
    from datamodules.filters.where import ConditionError, parse_condition

    conditions = []
    for text in args.where or ():
        try:
            conditions.append(parse_condition(text))
        except ConditionError as error:
            raise ConfigError(f"--where {text!r}: {error}") from error
    limits = ("min_side", "max_aspect", "min_pixels", "max_pixels", "min_words", "max_words")
    values: dict[str, Any] = {name: getattr(args, name, None) for name in limits}
    return Filters(**values, where=tuple(conditions), duplicates=_duplicates(getattr(args, "drop_duplicates", None)))


def workers_of(args: argparse.Namespace) -> int:
    """Return the number of worker processes, by default one per available CPU core."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return int(args.workers or cores or 1)


def _duplicates(text: str | None) -> Any:
    from datamodules.filters.duplicates import MAX_DISTANCE

    if text is None or text == "exact":
        return text
    if not text.isdecimal() or int(text) > MAX_DISTANCE:
        raise ConfigError(f'--drop-duplicates {text}: must be "exact" or a number of bits from 0 to {MAX_DISTANCE}')
    return int(text)
