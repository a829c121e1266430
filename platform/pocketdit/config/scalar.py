"""Convert single YAML values to numbers, booleans, text, and paths."""

import math
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any

from pocketdit.config.errors import show

NAMES = {int: "int", float: "float", bool: "bool", str: "str", Path: "a path", NoneType: "null"}
# Larger integers overflow the 64-bit integers of torch and the floats of Python.
_LARGEST = {int: 2**63 - 1, float: sys.float_info.max}


@dataclass(frozen=True)
class Form:
    """The expected form of a string in error messages, as in ``Annotated[str, Form("HEIGHTxWIDTH in pixels")]``."""

    description: str

    def __str__(self) -> str:
        return self.description


class UnquotedError(ValueError):
    """The value is a number, true, or false instead of text."""


def to_scalar(value: Any, kind: Any) -> Any:
    """Convert a value to one of the types in ``NAMES``. Reject true as a number and "yes" as a boolean.

    Raises:
        UnquotedError: Text is expected, but the value is a number, true, or false.
        ValueError: The value does not have this type.
    """
    if kind in (int, float) and type(value) in (int, float, str):
        return _to_number(value, kind)
    if kind is Path and isinstance(value, str) and value:
        return Path(value).expanduser()
    if type(value) is kind:
        return value
    if kind is str and isinstance(value, int | float):
        raise UnquotedError(f"expected str, got {show(value)}; put it in quotes")
    raise ValueError(f"expected {NAMES[kind]}, got {show(value)}")


def _to_number(value: float | str, kind: type[int] | type[float]) -> float:
    """Convert a number, which may be given as text. Reject NaN, infinity, and conversions that lose precision."""
    number: float | None = None
    with suppress(ValueError, OverflowError):
        number = kind(value) if isinstance(value, str) else value
    if kind is float and isinstance(number, float) and not math.isfinite(number):
        raise ValueError(f"must be finite, not {show(value)}")
    if number not in (None, math.inf, -math.inf) and abs(number) > _LARGEST[kind]:
        raise ValueError(f"{show(value)} is too large")
    if number is None or not math.isfinite(number) or kind(number) != number:
        raise ValueError(f"expected {NAMES[kind]}, got {show(value)}")
    return kind(number)
