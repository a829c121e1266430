"""Implements ``lightning data index``.

Modules that are slow to import are imported inside functions.
"""

import argparse
from pathlib import Path

from pocketdit.commands.data.import_options import (
    add_size_filters,
    add_where,
    add_workers,
    check_import_options,
    filters_of,
    reading_of,
    workers_of,
)
from pocketdit.commands.data.options import check_ranges, parse_number
from pocketdit.errors import ConfigError


def add_index(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand ``index`` to ``lightning data``."""
    index = verbs.add_parser(
        "index",
        help="write an index of tars, so that they can be trained on in place",
        description="Write an index of WebDataset tars, such as the output of img2dataset, so that they can be trained "
        "on without being copied. If the command is killed, run it again to continue.",
    )
    index.add_argument(
        "source", help="folder of tars, a single tar, or the URL of a folder of tars, such as s3://BUCKET/TARS"
    )
    index.add_argument("out", type=Path, nargs="?", help="folder of the new index")
    index.add_argument("--in-place", action="store_true", help="write the index to the folder of the tars instead")
    index.add_argument(
        "--validation",
        help='fraction of images to hold out (default: 0.05), or "same" to validate on the training images. If the '
        "source has splits, such as folders named train and val, these are used instead",
    )
    index.add_argument(
        "--base-size",
        type=int,
        default=128,
        help="base size of the buckets in pixels. The report shows how much of the images is lost when they are "
        "cropped and scaled to these buckets (default: %(default)s)",
    )
    index.add_argument(
        "--buckets",
        choices=("aspect", "square"),
        default="aspect",
        help="shape of the buckets: the aspect ratio nearest to that of the image, or a square (default: %(default)s)",
    )
    index.add_argument("--overwrite", action="store_true", help="replace an existing index")
    index.add_argument(
        "--image-field",
        metavar="NAME",
        help="the member that contains the image, such as input.jpg (default: the first member with an image suffix)",
    )
    index.add_argument(
        "--caption-field",
        metavar="NAME[:KEY]",
        action="append",
        help="a member with captions, such as prompt.txt, or a key inside it, such as json:long_caption; can be "
        "repeated, with the short captions first (default: json, txt or caption)",
    )
    index.add_argument(
        "--captions-per-line", action="store_true", help="treat each line of a text member as a separate caption"
    )
    add_workers(index)
    filters = index.add_argument_group("filters (the report counts the images that each filter leaves out)")
    add_size_filters(filters)
    add_where(filters)
    index.set_defaults(call=call_index)


def call_index(args: argparse.Namespace) -> None:
    """Run ``lightning data index``."""
    if (args.out is None) != args.in_place:
        raise ConfigError("OUT: pass either a folder for the index or --in-place, but not both")
    fraction = None if args.validation in (None, "same") else parse_number(args.validation, "--validation")
    if fraction is not None and not 0 <= fraction < 1:
        raise ConfigError(f"--validation {args.validation}: must be at least 0 and less than 1")
    check_ranges(args)
    check_import_options(args)
    from datamodules.imports.index import IndexSettings, index_tars
    from pocketdit.config.shell import command_line, setting

    filters = filters_of(args)
    settings = IndexSettings(
        reading=reading_of(args, filters),
        filters=filters,
        fraction=fraction,
        validation="same" if args.validation == "same" else "held-out",
        base_size=args.base_size,
        buckets=args.buckets,
        max_crop=args.max_crop,
        max_enlargement=args.max_enlargement,
    )
    report = index_tars(args.source, args.out, settings, workers=workers_of(args), overwrite=args.overwrite)
    folder = args.out or Path(args.source)
    print(f"{folder}: the index is already complete" if report is None else report)
    experiment = "experiments/elastic_pretrain.yaml"
    path = report.path if report else folder
    print(f"train on it with: {command_line('run', experiment, setting('data.init_args.path', path))}")
