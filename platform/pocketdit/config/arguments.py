"""Settings of a command that has no YAML file, given as ``key=value`` on the command line."""

from collections.abc import Sequence
from typing import Any, TypeVar

from pocketdit.config.errors import InvalidValueError
from pocketdit.config.override import parse
from pocketdit.config.typed import convert
from pocketdit.errors import ConfigError

T = TypeVar("T")


def parse_settings(overrides: Sequence[str], cls: type[T]) -> T:
    """Build settings from ``key=value`` arguments.

    Raises:
        ConfigError: An argument does not have the form key=value, a key is unknown, or a value is invalid.
    """
    values: dict[str, Any] = {}
    for override in overrides:
        parse(override).apply(values)
    try:
        settings: T = convert(values, cls, "")
    except InvalidValueError as error:
        raise ConfigError(f"command line: {error}") from None
    return settings
