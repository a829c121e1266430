"""Settings that have no effect unless a YAML file passes them on to its components by interpolation."""

from collections.abc import Sequence
from pathlib import Path

from pocketdit.config.override import Override
from pocketdit.errors import ConfigError


def require_used(file: Path, overrides: Sequence[str | Override], keys: Sequence[str]) -> None:
    """Check that a file refers to each of the ``keys`` that an override sets.

    Raises:
        ConfigError: An override would have no effect.
    """
    text = file.read_text()
    for override in overrides:
        key = override.key if isinstance(override, Override) else override.partition("=")[0]
        if key in keys and f"${{{key}}}" not in text:
            raise ConfigError(
                f"command line ({key}=...): {file} does not use ${{{key}}}, so {key} would have no effect"
            )
