"""Implements ``lightning data stats``.

Modules that are slow to import are imported inside functions.
"""

import argparse
from pathlib import Path

from pocketdit.commands.data.options import (
    add_bucket_options,
    add_text_option,
    check_ranges,
    load_latent_settings,
    load_text_encoders,
)


def add_stats(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand ``stats`` to ``lightning data``."""
    stats = verbs.add_parser(
        "stats",
        help="describe the image sizes, buckets and captions of a data set",
        description="Print the image sizes, buckets and captions of a data set.",
    )
    stats.add_argument("path", type=Path, help="folder of the data set")
    stats.add_argument("--sheet", type=Path, metavar="PNG", help="also write a contact sheet of images with captions")
    stats.add_argument(
        "--latents",
        type=Path,
        metavar="YAML",
        help="also compute the mean and standard deviation of each latent channel of this experiment's autoencoder",
    )
    stats.add_argument(
        "--base-size",
        type=int,
        help="size of the buckets to which images are cropped (default: 128, or the size in the --latents experiment)",
    )
    add_bucket_options(stats)
    add_text_option(stats)
    stats.add_argument(
        "--max-crop",
        type=float,
        default=0.5,
        help="count images that would lose more than this fraction of their area to cropping (default: %(default)s)",
    )
    stats.add_argument(
        "--max-enlargement",
        type=float,
        default=2.0,
        help="count images that would be enlarged by more than this factor (default: %(default)s)",
    )
    stats.set_defaults(call=call_stats)


def call_stats(args: argparse.Namespace) -> None:
    """Run ``lightning data stats``."""
    check_ranges(args)
    autoencoder, base_size, buckets = load_latent_settings(args)
    from datamodules.shards.stats import contact_sheet, describe_dataset, latent_statistics

    text_encoders = load_text_encoders(args.text)
    limits = {"max_crop": args.max_crop, "max_enlargement": args.max_enlargement}
    print(describe_dataset(args.path, base_size, buckets, text_encoders=text_encoders, **limits))
    if autoencoder is not None:
        print(f"\n{latent_statistics(args.path, autoencoder, base_size, buckets)}")
    if args.sheet:
        contact_sheet(args.path, args.sheet)
        print(f"contact sheet: {args.sheet}")
