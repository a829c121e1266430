"""``lightning data``, which builds, validates or describes a data set.

Modules that are slow to import are imported inside functions.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocketdit.bounds import MAX_SIDE
from pocketdit.errors import ConfigError, RunError

if TYPE_CHECKING:
    from datamodules.shards.build_generated import ImageGenerator

GENERATED = ("scenes", "openmoji")


def add_data(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand to the command line."""
    data = subparsers.add_parser("data", help="build, validate or describe a data set")
    actions = data.add_subparsers(dest="kind", metavar="build|validate|stats", required=True)
    build = actions.add_parser("build", help="build a data set from generated images or a folder of images")
    build.add_argument(
        "source",
        help='"scenes" (rendered shapes), "openmoji" (compositions of pictograms), or a folder of images with captions '
        "(.txt or .json files, or tables)",
    )
    build.add_argument("out", type=Path, help="folder of the new data set")
    build.add_argument("--train", type=int, help="generated images: number of training samples (default: 12000)")
    build.add_argument(
        "--validation",
        help="generated images: number of validation samples (default: 512); folder: fraction of images to hold out "
        '(default: 0.05), or "same" to validate on the training images. If the folder contains train and val or test '
        "folders, these are used as the splits",
    )
    build.add_argument("--seed", type=int, default=0, help="generated images: their seed (default: %(default)s)")
    build.add_argument("--size", type=int, help="openmoji only: side of the images in pixels (default: 128)")
    build.add_argument(
        "--max-side", type=int, help="folder only: scale down images whose longer side exceeds this number of pixels"
    )
    build.add_argument(
        "--captions",
        type=Path,
        metavar="TABLE",
        help="folder only: use the captions in this table (.csv, .tsv or .jsonl) instead of any others",
    )
    build.add_argument(
        "--captions-per-line",
        action="store_true",
        help="folder only: treat each line of a .txt file as a separate caption",
    )
    build.add_argument("--latents", type=Path, metavar="YAML", help="store latents of this experiment's autoencoder")
    build.add_argument(
        "--base-size",
        type=int,
        help="size of the buckets to which images are cropped with --latents, and for which the report states how "
        "much is lost by cropping and scaling (default: 128, or the size in the --latents experiment)",
    )
    add_bucket_options(build)
    build.add_argument(
        "--max-crop",
        type=float,
        help="folder only: exclude images of which cropping would remove more than this fraction",
    )
    build.add_argument(
        "--max-enlargement",
        type=float,
        help="folder only: exclude images that would be enlarged by more than this factor",
    )
    build.add_argument("--overwrite", action="store_true", help="replace an existing data set")
    build.add_argument("--if-missing", action="store_true", help="do nothing if the data set already exists")
    build.set_defaults(call=call_data_build)
    validate = actions.add_parser("validate", help="check all samples in all shards")
    validate.add_argument("path", type=Path, help="folder of the data set")
    add_text_option(validate)
    validate.set_defaults(call=call_data_validate)
    stats = actions.add_parser("stats", help="show sizes, buckets and captions")
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
        help="count images of which more than this fraction would be cropped (default: %(default)s)",
    )
    stats.add_argument(
        "--max-enlargement",
        type=float,
        default=2.0,
        help="count images that would be enlarged by a larger factor (default: %(default)s)",
    )
    stats.set_defaults(call=call_data_stats)


def add_text_option(parser: argparse.ArgumentParser) -> None:
    """Add the option ``--text``."""
    parser.add_argument(
        "--text",
        type=Path,
        metavar="YAML",
        help="count what this experiment's text encoders do not see of the captions (default: the embedded encoders "
        "with 80 words)",
    )


def load_text_encoders(experiment_file: Path | None) -> list[Any]:
    """Return the text encoders of an experiment, or the embedded ones."""
    from pocketdit.encoders.hashed_text import PhraseEncoder, WordEncoder

    if experiment_file is None:
        return [WordEncoder(max_tokens=80), PhraseEncoder(max_tokens=80)]
    from pocketdit.config.component import build
    from pocketdit.config.experiment import DecoderExperiment, kind_of
    from pocketdit.config.load import load

    experiment = load(experiment_file, [], kind_of(experiment_file)).config
    if isinstance(experiment, DecoderExperiment):
        raise ConfigError(f"--text {experiment_file}: trains a decoder, which uses no text encoders")
    return [build(component) for component in experiment.text_encoders]


def add_bucket_options(parser: argparse.ArgumentParser) -> None:
    """Add the option ``--buckets``."""
    parser.add_argument(
        "--buckets",
        choices=("aspect", "square"),
        help="crop each image to the nearest aspect ratio, or to a square (default: aspect, or the setting in the "
        "--latents experiment)",
    )


def call_data_build(args: argparse.Namespace) -> None:
    """Run ``lightning data build``."""
    from datamodules.shards.schema import is_complete

    if args.if_missing and is_complete(args.out):
        print(f"{args.out} already exists")
        return
    validation = None if args.validation in (None, "same") else parse_number(args.validation, "--validation")
    check_build_options(args, validation)
    autoencoder, base_size, buckets = load_latent_settings(args)
    from datamodules.shards.build import build_folder
    from datamodules.shards.build_generated import build_generated
    from pocketdit.config.shell import command_line, setting

    if args.source in GENERATED:
        report = build_generated(
            image_generator(args),
            args.out,
            12_000 if args.train is None else args.train,
            512 if validation is None else int(validation),
            args.seed,
            autoencoder=autoencoder,
            base_size=base_size,
            buckets=buckets,
            overwrite=args.overwrite,
        )
    else:
        report = build_folder(
            Path(args.source),
            args.out,
            captions=args.captions,
            captions_per_line=args.captions_per_line,
            validation_fraction=validation,
            validation="same" if args.validation == "same" else "held-out",
            max_side=args.max_side,
            base_size=base_size,
            buckets=buckets,
            max_crop=args.max_crop,
            max_enlargement=args.max_enlargement,
            autoencoder=autoencoder,
            overwrite=args.overwrite,
        )
    print(report)
    experiment = "experiments/elastic_pretrain.yaml"
    print(f"train on it with: {command_line('run', experiment, setting('data.init_args.path', args.out))}")


def image_generator(args: argparse.Namespace) -> "ImageGenerator":
    """Create the generator of the images that the command line asks for."""
    if args.source == "openmoji":
        from datamodules.pictograms.generator import PictogramGenerator

        return PictogramGenerator(128 if args.size is None else args.size)
    from datamodules.scenes.generator import SceneGenerator

    return SceneGenerator()


def check_build_options(args: argparse.Namespace, validation: float | None) -> None:
    """Check the values of the options, and that they apply to the source.

    Raises:
        ConfigError: A value is invalid, or an option does not apply to the source.
    """
    is_generated = args.source in GENERATED
    if args.size is not None and args.source != "openmoji":
        raise ConfigError("--size: only applies to openmoji")
    if not is_generated and args.train is not None:
        raise ConfigError("--train: only applies to generated images; for a folder, all images are used")
    for option in ("max_side", "captions", "captions_per_line", "max_crop", "max_enlargement") if is_generated else ():
        if getattr(args, option) not in (None, False):
            raise ConfigError(f"--{option.replace('_', '-')}: only applies to a folder of images")
    if is_generated and args.validation == "same":
        raise ConfigError("--validation same: only applies to a folder of images")
    if is_generated and args.train is not None and args.train < 1:
        raise ConfigError(f"--train {args.train}: must be at least 1")
    check_ranges(args)
    if validation is None:
        return
    if is_generated and not (validation >= 1 and validation.is_integer()):
        raise ConfigError(f"--validation {args.validation}: must be a whole number that is at least 1")
    if not is_generated and not 0 <= validation < 1:
        raise ConfigError(f"--validation {args.validation}: must be at least 0 and less than 1")


def check_ranges(args: argparse.Namespace) -> None:
    """Check that numbers are within the ranges of their options.

    Raises:
        ConfigError: A number is out of range.
    """
    checks: tuple[tuple[str, Callable[[float], bool], str], ...] = (
        ("max_side", lambda value: value >= 1, "at least 1"),
        ("size", lambda value: value >= 64 and value % 32 == 0, "a multiple of 32 that is at least 64"),
        ("max_crop", lambda value: 0 <= value < 1, "at least 0 and less than 1"),
        ("max_enlargement", lambda value: value > 0, "positive"),
        ("base_size", lambda value: 32 <= value <= MAX_SIDE and value % 32 == 0, f"a multiple of 32 up to {MAX_SIDE}"),
    )
    for option, is_valid, requirement in checks:
        value = getattr(args, option, None)
        if value is not None and not is_valid(value):
            raise ConfigError(f"--{option.replace('_', '-')} {value}: must be {requirement}")


def load_latent_settings(args: argparse.Namespace) -> tuple[Any, int, Any]:
    """Return the autoencoder of the --latents experiment or None, and the base size and shape of the buckets.

    The autoencoder is on the GPU if available. The options --base-size and --buckets replace the experiment's settings.
    """
    autoencoder, settings = load_autoencoder(args.latents) if args.latents else (None, {})
    base_size = args.base_size or int(settings.get("base_size", 128))
    return autoencoder, base_size, args.buckets or settings.get("buckets", "aspect")


def load_autoencoder(experiment_file: Path) -> tuple[Any, dict[str, Any]]:
    """Build the autoencoder of an experiment, on the GPU if available, and return it with the settings of the data."""
    from pocketdit.config.component import build
    from pocketdit.config.experiment import kind_of
    from pocketdit.config.load import load

    experiment = load(experiment_file, [], kind_of(experiment_file)).config
    autoencoder = build(experiment.autoencoder)
    import torch

    autoencoder.to("cuda" if torch.cuda.is_available() else "cpu")
    return autoencoder, experiment.data.init_args


def parse_number(text: str, option: str) -> float:
    """Parse the value of a command-line option.

    Raises:
        ConfigError: The value is not a number.
    """
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"{option} {text}: must be a number") from None


def call_data_validate(args: argparse.Namespace) -> None:
    """Run ``lightning data validate``."""
    from datamodules.shards.validate import validate_dataset

    report = validate_dataset(args.path, load_text_encoders(args.text))
    print(report)
    if report.problems:
        count = len(report.problems)
        raise RunError(f"{args.path}: {count} {'problem' if count == 1 else 'problems'} (see above)")


def call_data_stats(args: argparse.Namespace) -> None:
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
