"""Options that several subcommands of ``lightning data`` share.

Modules that are slow to import are imported inside functions.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pocketdit.bounds import MAX_SIDE
from pocketdit.errors import ConfigError


def add_text_option(parser: argparse.ArgumentParser) -> None:
    """Add the option ``--text``."""
    parser.add_argument(
        "--text",
        type=Path,
        metavar="YAML",
        help="count the captions with parts that this experiment's text encoders cannot read (default: the built-in "
        "encoders, which read up to 80 words)",
    )


def load_text_encoders(experiment_file: Path | None) -> list[Any]:
    """Return the text encoders of an experiment or, if the file is None, the built-in encoders."""
    from pocketdit.encoders.hashed_text import PhraseEncoder, WordEncoder

    if experiment_file is None:
        return [WordEncoder(max_tokens=80), PhraseEncoder(max_tokens=80)]
    from pocketdit.config.component import build
    from pocketdit.config.experiment import Experiment, kind_of
    from pocketdit.config.load import load

    experiment = load(experiment_file, [], kind_of(experiment_file)).config
    if not isinstance(experiment, Experiment):
        raise ConfigError(f"--text {experiment_file}: this experiment uses no text encoders; use one with a backbone")
    return [build(component) for component in experiment.text_encoders]


def add_bucket_options(parser: argparse.ArgumentParser) -> None:
    """Add the option ``--buckets``."""
    parser.add_argument(
        "--buckets",
        choices=("aspect", "square"),
        help="crop each image to the nearest aspect ratio, or to a square (default: aspect, or the setting in the "
        "--latents experiment)",
    )


def check_ranges(args: argparse.Namespace) -> None:
    """Check that the numbers on the command line are within their ranges.

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
    """Return the autoencoder of the --latents experiment (None without one), and the buckets' base size and shape.

    The autoencoder is on a GPU if there is one. --base-size and --buckets override the experiment's settings.
    """
    autoencoder, settings = load_autoencoder(args.latents) if args.latents else (None, {})
    base_size = args.base_size or int(settings.get("base_size", 128))
    return autoencoder, base_size, args.buckets or settings.get("buckets", "aspect")


def load_autoencoder(experiment_file: Path) -> tuple[Any, dict[str, Any]]:
    """Build an experiment's autoencoder, on a GPU if there is one, and return it with the data module's settings."""
    from pocketdit.config.component import build
    from pocketdit.config.experiment import AutoencoderExperiment, kind_of
    from pocketdit.config.load import load

    experiment = load(experiment_file, [], kind_of(experiment_file)).config
    if isinstance(experiment, AutoencoderExperiment):
        raise ConfigError(
            f"--latents {experiment_file}: this experiment trains an autoencoder; use one that trains on latents"
        )
    autoencoder = build(experiment.autoencoder)
    import torch

    autoencoder.to("cuda" if torch.cuda.is_available() else "cpu")
    return autoencoder, experiment.data.init_args


def parse_number(text: str, option: str) -> float:
    """Parse the value of a command-line option as a number.

    Raises:
        ConfigError: The value is not a number.
    """
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"{option} {text}: must be a number") from None
