"""Configuration errors that refer to a key, and functions for their messages.

``load`` prefixes these messages with the file and line, or with the override.
"""

import difflib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pocketdit.errors import ConfigError


class InvalidValueError(ConfigError):
    """An invalid value at a dotted key, such as ``backbone.levels.0.depth``.

    The key is empty if the problem concerns the configuration as a whole.
    """

    def __init__(self, key: str, problem: str) -> None:
        self.key = key
        super().__init__(f"{key}: {problem}" if key else problem)


class UnquotedTextError(InvalidValueError):
    """A value that YAML reads as a number, true, or false, although text is expected."""


class MissingKeyError(InvalidValueError):
    """A required key is missing from the mapping at ``key``."""


def join(key: str, part: object) -> str:
    """Return the dotted key of the entry ``part`` of the mapping or list at ``key``."""
    return f"{key}.{part}" if key else str(part)


def dotted(key: str | None) -> str:
    """Convert a key such as ``levels[0].depth`` to ``levels.0.depth``."""
    return re.sub(r"\[(\d+)\]", r".\1", key or "")


def nearest(word: object, valid: Iterable[object]) -> str | None:
    """Return the valid name that is closest to ``word``, if one is close. Case is ignored."""
    lowered = {name.lower(): name for name in valid if isinstance(name, str)}
    close = difflib.get_close_matches(str(word).lower(), lowered, n=1, cutoff=0.55)
    return lowered[close[0]] if close else None


def did_you_mean(word: object, valid: Iterable[object]) -> str:
    """Return the end of an error message: the nearest valid name as a suggestion, or "" if no name is close."""
    match = nearest(word, valid)
    return f"; did you mean {match!r}?" if match else ""


def did_you_mean_or_all(word: object, valid: Iterable[str]) -> str:
    """Return the end of an error message: the nearest valid name or, if no name is close, all valid names."""
    names = list(valid)
    return did_you_mean(word, names) or (f"; valid: {', '.join(names)}" if names else "; none is valid here")


def did_you_mean_path(path: Path, pattern: str = "*") -> str:
    """Return the end of an error message about a missing path: the nearest existing path, or "" if none is close."""
    missing = next(part for part in (*reversed(path.parents), path) if not part.exists() or part == path)
    near = nearest(missing.name, [sibling.name for sibling in missing.parent.glob(pattern)])
    return f"; did you mean {str(missing.with_name(near))!r}?" if near else ""


def show(value: Any) -> str:
    """Describe an unexpected YAML value for an error message."""
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    text = "null" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
