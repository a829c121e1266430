"""Implements ``lightning data build``.

Modules that are slow to import are imported inside functions.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pocketdit.commands.data.import_options import (
    IMPORT_OPTIONS,
    add_import_options,
    check_import_options,
    filters_of,
    reading_of,
    workers_of,
)
from pocketdit.commands.data.options import check_ranges, parse_number
from pocketdit.errors import ConfigError

if TYPE_CHECKING:
    from datamodules.shards.build_generated import ImageGenerator

GENERATED = ("scenes", "openmoji", "reconstruction")
SIZED = ("openmoji", "reconstruction")
# The experiment to suggest for each kind of generated images. For all other images, it is elastic_pretrain.yaml.
EXPERIMENTS = {
    "openmoji": "experiments/emoji/emoji_pretrain.yaml",
    "reconstruction": "experiments/emoji/autoencoder.yaml",
}


def add_build(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand ``build`` to ``lightning data``."""
    build = verbs.add_parser("build", help="build a data set from generated images or from your own images")
    build.add_argument(
        "source",
        help='"scenes" (rendered shapes), "openmoji" (compositions of pictograms), "reconstruction" (pictograms and '
        "photographs for training an autoencoder), or your own images: a folder with captions, tars, Parquet files, "
        "COCO, ImageNet, or a table of paths",
    )
    build.add_argument("out", type=Path, help="folder of the new data set")
    build.add_argument("--train", type=int, help="generated images: number of training samples (default: 12000)")
    build.add_argument(
        "--validation",
        help="generated images: number of validation samples (default: 512); your own images: fraction to hold out "
        '(default: 0.05), or "same" to validate on the training images. If the source has splits, such as folders '
        "named train and val, these are used instead",
    )
    build.add_argument("--seed", type=int, default=0, help="generated images: random seed (default: %(default)s)")
    build.add_argument(
        "--size", type=int, help="openmoji and reconstruction: side length of the images in pixels (default: 128)"
    )
    build.add_argument(
        "--base-size",
        type=int,
        default=128,
        help="base size of the buckets in pixels. The report shows how much of the images is lost when they are "
        "cropped and scaled to these buckets (default: %(default)s)",
    )
    build.add_argument(
        "--buckets",
        choices=("aspect", "square"),
        default="aspect",
        help="shape of the buckets: the aspect ratio nearest to that of the image, or a square (default: %(default)s)",
    )
    build.add_argument("--overwrite", action="store_true", help="replace an existing data set")
    build.add_argument("--if-missing", action="store_true", help="do nothing if the data set already exists")
    add_import_options(build)
    build.set_defaults(call=call_build)


def call_build(args: argparse.Namespace) -> None:
    """Run ``lightning data build``."""
    from datamodules.shards.schema import is_complete

    if args.if_missing and is_complete(args.out):
        print(f"{args.out} already exists")
        return
    validation = None if args.validation in (None, "same") else parse_number(args.validation, "--validation")
    check_build_options(args, validation)
    from datamodules.imports.build import build_dataset
    from datamodules.shards.build_generated import build_generated
    from pocketdit.config.shell import command_line, setting

    if args.source in GENERATED:
        report = build_generated(
            image_generator(args),
            args.out,
            12_000 if args.train is None else args.train,
            512 if validation is None else int(validation),
            args.seed,
            overwrite=args.overwrite,
        )
    else:
        filters = filters_of(args)
        report = build_dataset(
            Path(args.source),
            args.out,
            layout=args.layout,
            reading=reading_of(args, filters),
            filters=filters,
            validation_fraction=validation,
            validation="same" if args.validation == "same" else "held-out",
            max_side=args.max_side,
            base_size=args.base_size,
            buckets=args.buckets,
            max_crop=args.max_crop,
            max_enlargement=args.max_enlargement,
            workers=workers_of(args),
            overwrite=args.overwrite,
        )
    print(report)
    experiment = EXPERIMENTS.get(args.source, "experiments/elastic_pretrain.yaml")
    print(f"train on it with: {command_line('run', experiment, setting('data.init_args.path', args.out))}")


def image_generator(args: argparse.Namespace) -> "ImageGenerator":
    """Create the image generator that the command line selects."""
    size = 128 if args.size is None else args.size
    if args.source == "openmoji":
        from datamodules.pictograms.generator import PictogramGenerator

        return PictogramGenerator(size)
    if args.source == "reconstruction":
        from datamodules.reconstruction.generator import ReconstructionGenerator

        return ReconstructionGenerator(size)
    from datamodules.scenes.generator import SceneGenerator

    return SceneGenerator()


def check_build_options(args: argparse.Namespace, validation: float | None) -> None:
    """Check that the options have valid values and apply to the source.

    Raises:
        ConfigError: A value is invalid, or an option does not apply to the source.
    """
    if args.size is not None and args.source not in SIZED:
        raise ConfigError(f"--size only applies to {' and '.join(SIZED)}")
    if args.source in GENERATED:
        check_generated_options(args, validation)
    else:
        check_own_options(args, validation)
    check_ranges(args)
    check_import_options(args)


def check_generated_options(args: argparse.Namespace, validation: float | None) -> None:
    """Check the options for generating images (see ``check_build_options``)."""
    for option in IMPORT_OPTIONS:
        if getattr(args, option) not in (None, False):
            raise ConfigError(f"--{option.replace('_', '-')} only applies to your own images")
    if args.validation == "same":
        raise ConfigError("--validation same only applies to your own images")
    if args.train is not None and args.train < 1:
        raise ConfigError(f"--train {args.train}: must be at least 1")
    if validation is not None and not (validation >= 1 and validation.is_integer()):
        raise ConfigError(f"--validation {args.validation}: must be a whole number that is at least 1")


def check_own_options(args: argparse.Namespace, validation: float | None) -> None:
    """Check the options for importing the user's own images (see ``check_build_options``)."""
    if args.train is not None:
        raise ConfigError("--train only applies to generated images; all of your own images are used")
    if validation is not None and not 0 <= validation < 1:
        raise ConfigError(f"--validation {args.validation}: must be at least 0 and less than 1")
