"""Extracts captions from the values of a row, of a JSON object, or of the members of a sample."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from datamodules.shards.schema import SampleError, is_text
from pocketdit.errors import ConfigError

CAPTION_KEYS = ("caption", "text", "captions")


class ColumnGroup(NamedTuple):
    """Alternative names of a required column of a table."""

    names: tuple[str, ...]

    def __str__(self) -> str:
        first, *others = map(repr, self.names)
        return f"{first} (or {' or '.join(others)})" if others else first


class Field(NamedTuple):
    """The location of a value: a member, a column, or a key inside one of these, such as ``json:meta.caption``.

    Attributes:
        name: Name of the column, or extension of the member.
        keys: Keys that lead to the value inside the column or the JSON member.
    """

    name: str
    keys: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}:{'.'.join(self.keys)}" if self.keys else self.name


def parse_field(text: str, option: str) -> Field:
    """Parse a field, such as ``json:meta.caption``.

    Args:
        text: The field.
        option: The command-line option, for the error message.

    Raises:
        ConfigError: The text is not a valid field.
    """
    name, colon, keys = text.partition(":")
    if not name or (colon and not all(keys.split("."))):
        raise ConfigError(f"{option} {text}: write the name of a member or column, or NAME:KEY for a key inside it")
    return Field(name, tuple(keys.split(".")) if colon else ())


def captions_of_keys(row: Mapping[str, Any]) -> list[str]:
    """Return the captions in a row under any of the keys in ``CAPTION_KEYS``.

    Raises:
        SampleError: None of these keys exists, or a value is not text.
    """
    values = [row[key] for key in CAPTION_KEYS if row.get(key) is not None]
    if not values:
        raise SampleError(missing_key(CAPTION_KEYS, row))
    return clean_captions(values)


def captions_of_fields(row: Mapping[str, Any], fields: Sequence[Field]) -> list[str]:
    """Return the captions in the given fields of a row, in the order of the fields.

    Raises:
        SampleError: None of the fields has a value, or a value is not text.
    """
    values = [value for field in fields if (value := value_of(row, field)) is not None]
    if not values:
        expected = " and ".join(map(str, fields))
        raise SampleError(f"{expected}: missing or empty; the fields are: {', '.join(map(str, row)) or 'none'}")
    return clean_captions(values)


def value_of(row: Mapping[str, Any], field: Field) -> Any:
    """Return the value of a field in a row, or None if it is missing."""
    value = row.get(field.name)
    for key in field.keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def clean_captions(values: Iterable[object]) -> list[str]:
    """Collect captions from strings and lists of strings, collapse whitespace, and drop empty captions.

    Raises:
        SampleError: A value is not text.
    """
    captions: list[str] = []
    for value in values:
        for text in value if isinstance(value, list) else [value]:
            if not isinstance(text, str) or not is_text(text):
                raise SampleError("captions are not text")
            captions += [" ".join(text.split())] if text.strip() else []
    return captions


def missing_key(keys: tuple[str, ...], row: Mapping[str, Any]) -> str:
    """Return the error message for a row that contains none of the keys."""
    return f"the key {ColumnGroup(keys)} is missing or empty; the keys are: {', '.join(map(str, row)) or 'none'}"
