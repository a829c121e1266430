"""Configurations and overrides that a program passes to the Python API."""

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from pocketdit.config.override import Override, change
from pocketdit.config.typed import plain
from pocketdit.errors import ConfigError

Overrides = Sequence[str | Override] | Mapping[str, Any]
"""Changes to a configuration: ``key=value`` strings as on the command line, or a mapping from dotted keys to values."""
Config = str | Path | Mapping[str, Any]
"""A configuration: the path of a YAML file, or its content as mappings, lists and plain values."""


def as_overrides(overrides: Overrides) -> list[str | Override]:
    """Return overrides as the list of strings and ``Override`` objects that ``load`` takes."""
    if isinstance(overrides, str):
        raise ConfigError(f"overrides: pass a list of key=value strings or a mapping, not the string {overrides!r}")
    if isinstance(overrides, Mapping):
        return [change(key, value) for key, value in overrides.items()]
    return list(overrides)


@contextlib.contextmanager
def as_file(config: Config) -> Iterator[Path]:
    """Yield the path of a configuration file. A mapping is first written to a temporary file."""
    if not isinstance(config, Mapping):
        yield Path(config)
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "config.yaml"
        file.write_text(yaml.safe_dump(plain(dict(config)), allow_unicode=True, sort_keys=False), encoding="utf-8")
        yield file
