"""Configuration errors that know their key, and the words they use.

The loader puts the file and line, or the override, in front.
"""

import difflib
import re
import types
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pocketdit.errors import ConfigError

_NAMES = {int: "int", float: "float", bool: "bool", str: "str", Path: "a path", types.NoneType: "null"}


class InvalidValue(ConfigError):
    """``problem`` at the dotted ``key`` (``backbone.levels.0.depth``; empty for the whole configuration)."""

    def __init__(self, key: str, problem: str) -> None:
        self.key = key
        super().__init__(f"{key}: {problem}" if key else problem)


class MissingKey(InvalidValue):
    """The mapping at ``parent`` lacks ``name``, which has no default."""

    def __init__(self, parent: str, name: str, owner: str = "") -> None:
        super().__init__(parent, f"missing required key {name!r}" + (f" of {owner}" if owner else ""))
        self.key = join(parent, name)


def join(key: str, part: object) -> str:
    return f"{key}.{part}" if key else str(part)


def dotted(key: str | None) -> str:
    """``levels[0].depth`` as ``levels.0.depth``."""
    return re.sub(r"\[(\d+)\]", r".\1", key or "")


def nearest(word: object, valid: Iterable[object]) -> str | None:
    """The valid name that ``word`` was probably meant to be; case and anything but text are ignored."""
    lowered = {name.lower(): name for name in valid if isinstance(name, str)}
    close = difflib.get_close_matches(str(word).lower(), lowered, n=1, cutoff=0.55)
    return lowered[close[0]] if close else None


def did_you_mean(word: object, valid: Iterable[object]) -> str:
    """The end of an error's line: the nearest valid name, or nothing where none is near."""
    match = nearest(word, valid)
    return f"; did you mean {match!r}?" if match else ""


def did_you_mean_or_all(word: object, valid: Iterable[str]) -> str:
    """The nearest valid name, or all of them where none is near."""
    names = list(valid)
    return did_you_mean(word, names) or (f"; valid: {', '.join(names)}" if names else "; none is valid here")


def did_you_mean_path(path: Path, pattern: str = "*") -> str:
    """For a path that does not exist: what its first missing part was probably meant to be."""
    missing = next(part for part in (*reversed(path.parents), path) if not part.exists() or part == path)
    near = nearest(missing.name, [sibling.name for sibling in missing.parent.glob(pattern)])
    return f"; did you mean {str(missing.with_name(near))!r}?" if near else ""


def one_of(choices: Iterable[object]) -> str:
    return ", ".join(map(repr, choices))


def describe(annotation: Any) -> str:
    """What YAML has to hold for a type."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return describe(get_args(annotation)[0])
    if origin is Literal:
        return f"one of {one_of(get_args(annotation))}"
    if (origin or annotation) in (list, tuple, Sequence):
        return "a list"
    return _NAMES.get(annotation, "a mapping")


def show(value: Any) -> str:
    """What YAML held instead."""
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    text = "null" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
