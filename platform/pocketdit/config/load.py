"""From a YAML file and ``key=value`` overrides to a checked, typed configuration."""

import copy
import re
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar, get_type_hints

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pocketdit.config import document, override
from pocketdit.config.document import Document
from pocketdit.config.errors import InvalidValue, did_you_mean, dotted, join, show
from pocketdit.config.override import Override
from pocketdit.config.typed import convert, plain
from pocketdit.errors import ConfigError

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True)
class Loaded(Generic[T_co]):
    """A configuration, and the file and overrides that it was loaded from.

    ``resolved`` is ``config`` as plain values, with overrides, interpolations and defaults applied. ``classes`` says
    whether classes were imported for their arguments.
    """

    config: T_co
    resolved: dict[str, Any]
    path: Path
    overrides: tuple[str | Override, ...] = ()
    classes: bool = True

    def override(self, more: Sequence[str | Override]) -> "Loaded[T_co]":
        """Load the same file with more overrides, which are applied last; interpolations follow them."""
        return load(self.path, [*self.overrides, *more], type(self.config), classes=self.classes)

    def to_yaml(self) -> str:
        """Return YAML that ``load`` reads back to an equal configuration."""
        return OmegaConf.to_yaml(OmegaConf.create(_escape(self.resolved)))


def load(path: Path, overrides: Sequence[str | Override], schema: type[T], *, classes: bool = True) -> Loaded[T]:
    """Read a file, apply overrides and interpolations, and check the result against a schema.

    The structure is checked first, without importing any class that the configuration names, so that a wrong key,
    type or section is reported at once. Relative paths are relative to the working directory.

    Args:
        path: The YAML file.
        overrides: ``key=value`` words or ``Override`` objects. Of two with the same key, the last one wins.
        schema: A dataclass. If it has a method ``check``, that is called once the classes are imported, and raises
            ``ValueError`` for settings that the classes do not support.
        classes: Whether to go on to import the classes of components, check their arguments and add the default
            ones. Without this, their arguments are as written.

    Raises:
        ConfigError: One line with the file and line or the override, the key, and the problem.
    """
    source = document.read(path)
    parsed = [override.parse(item) if isinstance(item, str) else item for item in overrides]
    loaded = _check(source, parsed, schema, classes=False)
    if classes:
        loaded = _check(source, parsed, schema, classes=True)
    return replace(loaded, overrides=tuple(overrides))


def _check(source: Document, overrides: list[Override], schema: type[T], classes: bool) -> Loaded[T]:
    try:
        return _convert(source, overrides, schema, classes)
    except InvalidValue as error:
        place = _place(error, source, overrides, schema, classes)
        raise ConfigError(f"{place}: {error}{_meant(error, source, overrides)}") from None


def _convert(source: Document, overrides: list[Override], schema: type[T], classes: bool) -> Loaded[T]:
    values = copy.deepcopy(source.values)
    _add_defaults(values, schema)
    for change in overrides:
        change.apply(values)
    config = convert(_interpolate(values), schema, "", classes=classes)
    if classes and hasattr(config, "check"):
        try:
            config.check()
        except (ValueError, ConfigError) as error:
            raise InvalidValue("", str(error)) from None
    return Loaded(config, plain(config), source.path, classes=classes)


def _place(error: InvalidValue, source: Document, overrides: list[Override], schema: type[Any], classes: bool) -> str:
    """Return the override with which the error appears, if it can come from there, or else the file and line."""
    for count in range(len(overrides) + 1):
        try:
            _convert(source, overrides[:count], schema, classes)
        except InvalidValue as other:
            if str(other) == str(error):
                break
    written = _select(source.values, error.key)
    interpolated = isinstance(written, str) and "${" in written
    if count and (interpolated or overrides[count - 1].concerns(error.key) or _new(error, source, overrides)):
        return overrides[count - 1].place
    return source.place(error.key)


def _new(error: InvalidValue, source: Document, overrides: list[Override]) -> str:
    """Return the entry that lacks a key and exists only because of an override, or an empty string."""
    entry = error.key.rpartition(".")[0]
    named = any(change.key.startswith(f"{entry}.") for change in overrides)
    return entry if entry and named and _select(source.values, entry) is None else ""


def _meant(error: InvalidValue, source: Document, overrides: list[Override]) -> str:
    """Suggest the entry of the file that such an override was probably meant for."""
    above, _, name = _new(error, source, overrides).rpartition(".")
    siblings = _select(source.values, above) if above else None
    return did_you_mean(name, siblings) if isinstance(siblings, dict) else ""


def _add_defaults(values: dict[str, Any], schema: Any) -> None:
    """Add the schema's defaults to the file's values, so that interpolations and overrides can refer to them."""
    hints = get_type_hints(schema)
    for field in fields(schema):
        if field.name in values:
            if is_dataclass(hints[field.name]) and isinstance(values[field.name], dict):
                _add_defaults(values[field.name], hints[field.name])
        elif field.init and field.default is not MISSING:
            values[field.name] = plain(field.default)
        elif field.init and field.default_factory is not MISSING:
            values[field.name] = plain(field.default_factory())


def _interpolate(values: dict[str, Any]) -> Any:
    try:
        return OmegaConf.to_container(OmegaConf.create(values), resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        key = dotted(error.full_key)
        raise InvalidValue(key, _interpolation_problem(str(error).splitlines()[0], key, values)) from None


def _interpolation_problem(message: str, key: str, values: dict[str, Any]) -> str:
    written = show(_select(values, key))
    if unknown := re.search(r"Interpolation key '(.*?)' not found(?: \(resolved to '(.*?)'\))?", message):
        name = unknown[2] or unknown[1]
        return f"{written} refers to {name!r}, which does not exist{did_you_mean(name, _all_keys(values))}"
    if unset := re.search(r"Environment variable '(.*?)' not found", message):
        return f"{written}: the environment variable {unset[1]!r} is not set"
    if re.search("[Rr]ecursi|parent node", message):
        return f"{written} refers to itself in a circle"
    if message.startswith("Missing mandatory value"):
        return "'???' must be replaced by a value"
    return f"{written} cannot be interpolated: {message}"


def _select(values: Any, key: str) -> Any:
    for part in key.split("."):
        if isinstance(values, dict):
            values = values.get(part)
        elif isinstance(values, list) and part.isdecimal() and int(part) < len(values):
            values = values[int(part)]
        else:
            return None
    return values


def _all_keys(values: Any, above: str = "") -> Iterator[str]:
    if isinstance(values, list):
        values = dict(enumerate(values))
    if isinstance(values, dict):
        for part, value in values.items():
            yield join(above, part)
            yield from _all_keys(value, join(above, part))


def _escape(value: Any) -> Any:
    """Escape ``${`` in a resolved string, where it is text and not an interpolation."""
    if isinstance(value, dict):
        return {name: _escape(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_escape(item) for item in value]
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", value) if isinstance(value, str) else value
