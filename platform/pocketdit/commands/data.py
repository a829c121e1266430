"""``lightning data``: build, validate or describe a data set. Nothing heavy is imported before a verb needs it."""

import argparse
from pathlib import Path
from typing import Any

from pocketdit.errors import ConfigError, RunError


def add_data(verbs: argparse._SubParsersAction) -> None:
    data = verbs.add_parser("data", help="build, validate or describe a data set")
    kinds = data.add_subparsers(dest="kind", metavar="build|validate|stats", required=True)
    build = kinds.add_parser("build", help="write shards from drawn scenes or a folder of pictures")
    build.add_argument("source", help='"scenes", or a folder of pictures with captions (.txt, .json or one CSV)')
    build.add_argument("out", type=Path, help="folder of the new data set")
    build.add_argument("--train", type=int, help="scenes: training samples (12 000)")
    build.add_argument("--validation", default=None, help="scenes: validation samples (512); folder: share held out "
                       '(0.05), or "same" to validate on the training pictures')  # fmt: skip
    build.add_argument("--seed", type=int, default=0)
    build.add_argument("--max-side", type=int, help="folder: shrink pictures whose longer side is greater")
    build.add_argument("--latents", type=Path, metavar="YAML", help="store latents of this experiment's autoencoder")
    build.add_argument("--base-size", type=int, default=128, help="with --latents: size of the buckets")
    build.add_argument("--overwrite", action="store_true", help="replace a data set that is there")
    build.add_argument("--if-missing", action="store_true", help="do nothing where the data set is there")
    build.set_defaults(call=call_data_build)
    validate_dataset = kinds.add_parser("validate", help="check every sample of every shard")
    validate_dataset.add_argument("path", type=Path)
    validate_dataset.set_defaults(call=call_data_validate)
    describe_dataset = kinds.add_parser("stats", help="sizes, aspect ratios, captions")
    describe_dataset.add_argument("path", type=Path)
    describe_dataset.add_argument("--sheet", type=Path, help="also write a contact sheet with captions to this PNG")
    describe_dataset.add_argument("--latents", type=Path, metavar="YAML", help="also measure the latents' mean and standard "
                       "deviation in each channel of this experiment's autoencoder")  # fmt: skip
    describe_dataset.set_defaults(call=call_data_stats)


def call_data_build(args: argparse.Namespace) -> None:
    if args.if_missing and (args.out / "dataset.json").is_file():
        print(f"{args.out} is there")
        return
    share = None if args.validation in (None, "same") else number(args.validation, "--validation")
    check(args, share)
    autoencoder = None
    if args.latents:
        autoencoder, _ = autoencoder_of(args.latents)
    from datamodules.shards.build import build_folder, build_scenes

    if args.source == "scenes":
        validation = 512 if share is None else int(share)
        print(
            build_scenes(
                args.out,
                12_000 if args.train is None else args.train,
                validation,
                args.seed,
                autoencoder=autoencoder,
                base_size=args.base_size,
                overwrite=args.overwrite,
            )
        )
    else:
        print(
            build_folder(
                Path(args.source),
                args.out,
                validation_fraction=0.05 if share is None else share,
                validation="same" if args.validation == "same" else "held-out",
                max_side=args.max_side,
                base_size=args.base_size,
                autoencoder=autoencoder,
                overwrite=args.overwrite,
            )
        )
    print(f"next     lightning run experiments/elastic_pretrain.yaml data.init_args.path={args.out}")


def check(args: argparse.Namespace, share: float | None) -> None:
    """Raises ``ConfigError`` for numbers that no data set can have, and for options of the other source."""
    scenes = args.source == "scenes"
    if not scenes and args.train is not None:
        raise ConfigError("--train is for scenes: a folder's pictures are all used")
    if scenes and (args.max_side is not None or args.validation == "same"):
        raise ConfigError(f"{'--max-side' if args.max_side is not None else '--validation same'} is for a folder")
    if scenes and args.train is not None and args.train < 1:
        raise ConfigError(f"--train {args.train}: must be at least 1")
    if args.max_side is not None and args.max_side < 1:
        raise ConfigError(f"--max-side {args.max_side}: must be at least 1")
    if share is not None and not (share >= 1 and share.is_integer() if scenes else 0 <= share < 1):
        expected = "a whole number of samples" if scenes else "a share from 0 to below 1"
        raise ConfigError(f"--validation {args.validation}: expected {expected}")


def autoencoder_of(file: Path) -> tuple[Any, int]:
    """An experiment's autoencoder, on the GPU where there is one, and its pictures' size."""
    from pocketdit.config.component import build
    from pocketdit.config.experiment import kind_of
    from pocketdit.config.load import load

    experiment = load(file, [], kind_of(file)).config
    autoencoder = build(experiment.autoencoder)
    import torch

    autoencoder.to("cuda" if torch.cuda.is_available() else "cpu")
    return autoencoder, int(experiment.data.init_args.get("base_size", 128))


def number(text: str, option: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"{option} {text}: expected a number") from None


def call_data_validate(args: argparse.Namespace) -> None:
    from datamodules.shards.validate import validate_dataset

    report = validate_dataset(args.path)
    print(report)
    if report.problems:
        raise RunError(f"{args.path} is not in order: {len(report.problems)} problems above")


def call_data_stats(args: argparse.Namespace) -> None:
    autoencoder, base_size = autoencoder_of(args.latents) if args.latents else (None, 128)
    from datamodules.shards.stats import contact_sheet, latent_statistics, describe_dataset

    print(describe_dataset(args.path, base_size))
    if autoencoder is not None:
        print(f"\n{latent_statistics(args.path, autoencoder, base_size)}")
    if args.sheet:
        contact_sheet(args.path, args.sheet)
        print(f"contact sheet: {args.sheet}")
