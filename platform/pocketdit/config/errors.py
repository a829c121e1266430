"""Configuration errors that know their key, and the wording that they share.

``load`` puts the file and line, or the override, in front.
"""

import difflib
import re
import types
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pocketdit.errors import ConfigError

UNIONS = (Union, types.UnionType)
_NAMES = {int: "int", float: "float", bool: "bool", str: "str", Path: "a path", types.NoneType: "null"}


class InvalidValue(ConfigError):
    """A problem at a dotted key, such as ``backbone.levels.0.depth``; the key of the whole configuration is empty.

    The message of a missing key names the mapping that lacks it: that is ``shown``.
    """

    def __init__(self, key: str, problem: str, shown: str | None = None) -> None:
        self.key = key
        shown = key if shown is None else shown
        super().__init__(f"{shown}: {problem}" if shown else problem)


def join(key: str, part: object) -> str:
    return f"{key}.{part}" if key else str(part)


def dotted(key: str | None) -> str:
    """Turn ``levels[0].depth`` into ``levels.0.depth``."""
    return re.sub(r"\[(\d+)\]", r".\1", key or "")


def nearest(word: object, valid: Iterable[object]) -> str | None:
    """Return the valid name that ``word`` was probably meant to be. Case is ignored, and so are names of other types
    than text."""
    lowered = {name.lower(): name for name in valid if isinstance(name, str)}
    close = difflib.get_close_matches(str(word).lower(), lowered, n=1, cutoff=0.55)
    return lowered[close[0]] if close else None


def did_you_mean(word: object, valid: Iterable[object]) -> str:
    """End an error's line with the nearest valid name, if any name is near."""
    match = nearest(word, valid)
    return f"; did you mean {match!r}?" if match else ""


def did_you_mean_or_all(word: object, valid: Iterable[str]) -> str:
    """End an error's line with the nearest valid name, or with all of them."""
    names = list(valid)
    return did_you_mean(word, names) or (f"; valid: {', '.join(names)}" if names else "; none is valid here")


def did_you_mean_path(path: Path, pattern: str = "*") -> str:
    """End the line about a path that does not exist with what its first missing part was probably meant to be."""
    missing = next(part for part in (*reversed(path.parents), path) if not part.exists() or part == path)
    near = nearest(missing.name, [sibling.name for sibling in missing.parent.glob(pattern)])
    return f"; did you mean {str(missing.with_name(near))!r}?" if near else ""


def one_of(choices: Iterable[object]) -> str:
    return ", ".join(map(repr, choices))


def mismatch(value: Any, annotation: Any) -> str:
    """Say that YAML held something else than the annotation asks for."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return f"{show(value)} is not one of {one_of(args)}{did_you_mean(value, args)}"
    if origin is tuple and isinstance(value, list):
        return f"expected a list of {len(args)}, got {len(value)} items"
    choices = [choice for member in args if get_origin(member) is Literal for choice in get_args(member)]
    hint = "; put it in quotes" if annotation is str and isinstance(value, int | float) else ""
    return f"expected {describe(annotation)}, got {show(value)}{hint}{did_you_mean(value, choices)}"


def describe(annotation: Any) -> str:
    """Say what YAML must hold for a type."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return describe(args[0])
    if origin in UNIONS:
        return " or ".join(map(describe, args))
    if origin is Literal:
        return f"one of {one_of(args)}"
    if (origin or annotation) in (list, tuple, Sequence):
        return "a list"
    return _NAMES.get(annotation, "a mapping")


def show(value: Any) -> str:
    """Say what YAML held instead."""
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    text = "null" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
