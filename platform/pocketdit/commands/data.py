"""``lightning data``: build, validate or describe a data set. Heavy modules are imported when a verb needs them."""

import argparse
from pathlib import Path
from typing import Any

from pocketdit.errors import ConfigError, RunError


def add_data(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``lightning data`` and its verbs to the command line."""
    data = verbs.add_parser("data", help="build, validate or describe a data set")
    kinds = data.add_subparsers(dest="kind", metavar="build|validate|stats", required=True)
    build = kinds.add_parser("build", help="build a data set from rendered scenes or a folder of images")
    build.add_argument(
        "source", help='"scenes", or a folder of images with captions (.txt or .json files, or one table)'
    )
    build.add_argument("out", type=Path, help="folder of the new data set")
    build.add_argument("--train", type=int, help="scenes only: number of training samples (default: 12000)")
    build.add_argument(
        "--validation",
        help="scenes: number of validation samples (default: 512); folder: fraction of images to hold out (default: "
        '0.05), or "same" to validate on the training images',
    )
    build.add_argument("--seed", type=int, default=0, help="scenes only: seed of the scenes (default: %(default)s)")
    build.add_argument("--max-side", type=int, help="folder only: scale down images whose longer side is larger")
    build.add_argument("--latents", type=Path, metavar="YAML", help="store latents of this experiment's autoencoder")
    build.add_argument(
        "--base-size",
        type=int,
        default=128,
        help="with --latents: size of the buckets that images are cropped to (default: %(default)s)",
    )
    build.add_argument("--overwrite", action="store_true", help="replace an existing data set")
    build.add_argument("--if-missing", action="store_true", help="do nothing if the data set already exists")
    build.set_defaults(call=call_data_build)
    validate = kinds.add_parser("validate", help="check every sample of every shard")
    validate.add_argument("path", type=Path, help="folder of the data set")
    validate.set_defaults(call=call_data_validate)
    stats = kinds.add_parser("stats", help="show sizes, buckets and captions")
    stats.add_argument("path", type=Path, help="folder of the data set")
    stats.add_argument("--sheet", type=Path, metavar="PNG", help="also write a contact sheet of images with captions")
    stats.add_argument(
        "--latents",
        type=Path,
        metavar="YAML",
        help="also measure the mean and standard deviation of each latent channel of this experiment's autoencoder",
    )
    stats.set_defaults(call=call_data_stats)


def call_data_build(args: argparse.Namespace) -> None:
    """Run ``lightning data build``."""
    if args.if_missing and (args.out / "dataset.json").is_file():
        print(f"{args.out} already exists")
        return
    validation = None if args.validation in (None, "same") else parse_number(args.validation, "--validation")
    check_build_options(args, validation)
    autoencoder = load_autoencoder(args.latents)[0] if args.latents else None
    from datamodules.shards.build import build_folder, build_scenes

    if args.source == "scenes":
        report = build_scenes(
            args.out,
            12_000 if args.train is None else args.train,
            512 if validation is None else int(validation),
            args.seed,
            autoencoder=autoencoder,
            base_size=args.base_size,
            overwrite=args.overwrite,
        )
    else:
        report = build_folder(
            Path(args.source),
            args.out,
            validation_fraction=0.05 if validation is None else validation,
            validation="same" if args.validation == "same" else "held-out",
            max_side=args.max_side,
            base_size=args.base_size,
            autoencoder=autoencoder,
            overwrite=args.overwrite,
        )
    print(report)
    print(f"train on it with: lightning run experiments/elastic_pretrain.yaml data.init_args.path={args.out}")


def check_build_options(args: argparse.Namespace, validation: float | None) -> None:
    """Raise ``ConfigError`` for invalid values, and for options that do not apply to the source."""
    is_scenes = args.source == "scenes"
    if not is_scenes and args.train is not None:
        raise ConfigError("--train: only applies to scenes; all images of a folder are used")
    if is_scenes and args.max_side is not None:
        raise ConfigError("--max-side: only applies to a folder of images")
    if is_scenes and args.validation == "same":
        raise ConfigError("--validation same: only applies to a folder of images")
    if is_scenes and args.train is not None and args.train < 1:
        raise ConfigError(f"--train {args.train}: must be at least 1")
    if args.max_side is not None and args.max_side < 1:
        raise ConfigError(f"--max-side {args.max_side}: must be at least 1")
    if validation is None:
        return
    if is_scenes and not (validation >= 1 and validation.is_integer()):
        raise ConfigError(f"--validation {args.validation}: must be a whole number of samples, at least 1")
    if not is_scenes and not 0 <= validation < 1:
        raise ConfigError(f"--validation {args.validation}: must be a fraction of at least 0 and less than 1")


def load_autoencoder(experiment_file: Path) -> tuple[Any, int]:
    """Build an experiment's autoencoder, on the GPU if available, and return it with the experiment's base size."""
    from pocketdit.config.component import build
    from pocketdit.config.experiment import kind_of
    from pocketdit.config.load import load

    experiment = load(experiment_file, [], kind_of(experiment_file)).config
    autoencoder = build(experiment.autoencoder)
    import torch

    autoencoder.to("cuda" if torch.cuda.is_available() else "cpu")
    return autoencoder, int(experiment.data.init_args.get("base_size", 128))


def parse_number(text: str, option: str) -> float:
    """Parse the value of a command-line option."""
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"{option} {text}: must be a number") from None


def call_data_validate(args: argparse.Namespace) -> None:
    """Run ``lightning data validate``."""
    from datamodules.shards.validate import validate_dataset

    report = validate_dataset(args.path)
    print(report)
    if report.problems:
        count = len(report.problems)
        raise RunError(f"{args.path}: {count} {'problem' if count == 1 else 'problems'}, listed above")


def call_data_stats(args: argparse.Namespace) -> None:
    """Run ``lightning data stats``."""
    autoencoder, base_size = load_autoencoder(args.latents) if args.latents else (None, 128)
    from datamodules.shards.stats import contact_sheet, describe_dataset, latent_statistics

    print(describe_dataset(args.path, base_size))
    if autoencoder is not None:
        print(f"\n{latent_statistics(args.path, autoencoder, base_size)}")
    if args.sheet:
        contact_sheet(args.path, args.sheet)
        print(f"contact sheet: {args.sheet}")
