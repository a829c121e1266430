"""Load a checked, typed configuration from a YAML file and ``key=value`` overrides."""

import copy
import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, Generic, TypeVar, get_type_hints

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pocketdit.config import document, override
from pocketdit.config.document import Document
from pocketdit.config.errors import (
    InvalidValueError,
    MissingKeyError,
    UnquotedTextError,
    did_you_mean,
    dotted,
    join,
    show,
)
from pocketdit.config.override import Override
from pocketdit.config.secrets import Reference, environment_values, remember, require_no_password, with_references
from pocketdit.config.size import MAX_BITS, check_interpolations
from pocketdit.config.typed import convert, plain, section_class
from pocketdit.errors import ConfigError

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True)
class Loaded(Generic[T_co]):
    """A configuration, and the file and overrides from which it was loaded.

    Attributes:
        config: The configuration.
        resolved: The configuration as plain values, after overrides, interpolations and defaults. References to
            environment variables are not resolved, because the variables may contain secrets.
        path: Path of the YAML file.
        overrides: Overrides that were applied.
        classes: Whether the classes of components were imported and their arguments checked.
    """

    config: T_co
    resolved: dict[str, Any]
    path: Path
    overrides: tuple[str | Override, ...] = ()
    classes: bool = True

    def override(self, more: Sequence[str | Override]) -> "Loaded[T_co]":
        """Load the same file with further overrides, which are applied last."""
        return load(self.path, [*self.overrides, *more], type(self.config), classes=self.classes)

    def to_yaml(self) -> str:
        """Return YAML from which ``load`` restores an equal configuration."""
        return OmegaConf.to_yaml(OmegaConf.create(_escape(self.resolved)))


def load(path: Path, overrides: Sequence[str | Override], schema: type[T], *, classes: bool = True) -> Loaded[T]:
    """Read a file, apply overrides, resolve interpolations, and check the result against a schema.

    The structure is checked first, without importing the classes that the configuration names, so that an invalid key,
    type or section is reported immediately. Relative paths are relative to the working directory.

    Args:
        path: Path of the YAML file.
        overrides: ``key=value`` strings or ``Override`` objects. If a key occurs more than once, the last value wins.
        schema: A dataclass. Its method ``check``, if it has one, is called after the classes have been imported, and
            should raise ``ValueError`` for settings that the classes do not support.
        classes: Whether to also import the classes of components, check their arguments, and add default arguments.

    Raises:
        ConfigError: The configuration is invalid. The message is a single line that names the file and line number (or
            the override), the key, and the problem.
    """
    source = document.read(path)
    parsed = [override.parse(item) if isinstance(item, str) else item for item in overrides]
    try:
        values = _resolved(source, parsed, schema)
        config = _checked(values, schema, classes=False)
        if classes:
            config = _checked(values, schema, classes=True)
    except InvalidValueError as error:
        raise ConfigError(_located(error, source, parsed, schema, classes)) from None
    written = _written(source, parsed, schema)
    variables = environment_values(written)
    return Loaded(config, with_references(plain(config), written, variables), path, tuple(overrides), classes)


def _written(source: Document, overrides: Sequence[Override], schema: type) -> dict[str, Any]:
    """Return the values of a file after defaults and overrides have been applied, but not interpolations."""
    values = copy.deepcopy(source.values)
    _add_defaults(values, schema)
    for change in overrides:
        change.apply(values)
    return values


def _resolved(source: Document, overrides: Sequence[Override], schema: type) -> Any:
    """Return the plain values of a file after defaults, overrides and interpolations have been applied."""
    values = _written(source, overrides, schema)
    for key, value in _entries(values):
        if isinstance(value, int) and value.bit_length() > MAX_BITS:
            raise InvalidValueError(key, "the number is too large")
        if isinstance(value, str):
            try:
                require_no_password(value)
            except ValueError as error:
                raise InvalidValueError(key, str(error)) from None
    remember(values)
    try:
        check_interpolations(values)
    except ValueError as error:
        raise InvalidValueError("", str(error)) from None
    return _interpolate(values)


def _checked(values: Any, schema: type[T], classes: bool) -> T:
    """Convert plain values to the schema's type. If ``classes`` is set, also call the schema's method ``check``."""
    config: T = convert(values, schema, "", classes=classes)
    if classes and hasattr(config, "check"):
        try:
            config.check()
        except (ValueError, ConfigError) as error:
            raise InvalidValueError("", str(error)) from None
    return config


def _located(
    error: InvalidValueError, source: Document, overrides: list[Override], schema: type[T], classes: bool
) -> str:
    """Prefix an error with the first override that causes it or, if no override causes it, with the file and line."""

    @functools.cache
    def fails(count: int) -> bool:
        """Return whether the first ``count`` overrides are enough to cause the error."""
        try:
            _checked(_resolved(source, overrides[:count], schema), schema, classes)
        except InvalidValueError as other:
            return str(other) == str(error)
        return False

    entries = dict(_entries(source.values))
    written = entries.get(error.key)
    refers = isinstance(written, str) and "${" in written  # it may refer to a key that an override changes
    suspects = (i for i, change in enumerate(overrides) if refers or change.concerns(error.key))
    blamed = None if fails(0) else next((overrides[i] for i in suspects if fails(i + 1) and not fails(i)), None)
    if blamed is None:
        return f"{source.place(error.key)}: {error}"
    if isinstance(error, UnquotedTextError) and blamed.key == error.key and "${" not in blamed.text:
        return f"{blamed.place}: {error}: {override.in_quotes(blamed.key, blamed.text.partition('=')[2])}"
    above, _, name = error.key.rpartition(".")
    added = isinstance(error, MissingKeyError) and written is None  # the override probably refers to an existing entry
    return f"{blamed.place}: {error}{did_you_mean(name, entries.get(above) or ()) if added else ''}"


def _add_defaults(values: dict[str, Any], schema: Any) -> None:
    """Add the defaults of the schema to the values, so that interpolations and overrides can refer to them."""
    hints = get_type_hints(schema)
    for field in fields(schema):
        default = field.default if field.default_factory is MISSING else field.default_factory()
        if field.init and default is not MISSING:
            values.setdefault(field.name, plain(default))
        if section := section_class(hints[field.name], values.get(field.name)):
            _add_defaults(values[field.name], section)


def _interpolate(values: dict[str, Any]) -> Any:
    try:
        return OmegaConf.to_container(OmegaConf.create(values), resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        key, message = dotted(error.full_key), str(error).splitlines()[0]
    message = message.rpartition("raised while resolving interpolation: ")[2].strip('"')
    entries = dict(_entries(values))
    unknown = re.search(r"key '(.*?)' not found(?: \(resolved to '(.*?)'\))?", message)
    hint = did_you_mean(unknown[2] or unknown[1], entries) if unknown else ""
    raise InvalidValueError(key, f"{show(entries.get(key))}: {message}{hint}")


def _entries(values: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted key and the value of every entry of nested mappings and lists."""
    parts = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for part, value in parts:
        yield join(above, part), value
        yield from _entries(value, join(above, part))


def _escape(value: Any) -> Any:
    """Escape ``${`` in resolved strings, where it is not an interpolation."""
    if isinstance(value, dict):
        return {name: _escape(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_escape(item) for item in value]
    if isinstance(value, Reference):
        return str(value)
    return override.escape(value) if isinstance(value, str) else value
