"""Limits on the size of a configuration, which prevent a malicious file from exhausting the memory or the stack.

YAML aliases and interpolations repeat the values to which they refer, so ten lines can expand to gigabytes. Their
expanded size is therefore computed before they are expanded.
"""

import re
from typing import Any

import yaml  # type: ignore[import-untyped]

from pocketdit.config.errors import InvalidValueError

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's loader is faster, but not always available
MAX_BYTES = 1_000_000
MAX_DEPTH = 50
MAX_NODES = 100_000
MAX_CHARACTERS = 1_000_000
MAX_BITS = 4096  # maximum size of an integer in bits; Python refuses to print much larger integers

# Matches the beginning of an interpolation: up to the "}" after its key, the ":" after its function, or the "${" of an
# interpolation inside it. After an odd number of backslashes, "${" does not begin an interpolation.
_INTERPOLATION = re.compile(r"(?<!\\)(?:\\\\)*\$\{\s*([^${}:]*?)\s*(:|\}|\$\{|\Z)")

Key = tuple[str, ...]


def check_nesting(text: str) -> None:
    """Check the depth of nested brackets and indentation in YAML, before a recursive parser reads it.

    Raises:
        ValueError: The nesting is deeper than ``MAX_DEPTH``, or the text is longer than ``MAX_BYTES``.
    """
    if len(text) > MAX_BYTES:
        raise ValueError(f"longer than {MAX_BYTES:,} characters, which is too long for a configuration")
    depth = 0
    try:
        for event in yaml.parse(text, Loader=LOADER):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise ValueError(f"nested more than {MAX_DEPTH} levels deep")
    except yaml.YAMLError:
        return  # the parser that reads the values will report the error and its line


def check_aliases(node: yaml.Node) -> None:
    """Check the number of values in a document after its aliases are expanded.

    Raises:
        ValueError: There are more than ``MAX_NODES`` values, or an alias contains itself.
    """
    sizes: dict[int, int] = {}
    entered: set[int] = set()

    def size(part: yaml.Node) -> int:
        if id(part) in sizes:
            return sizes[id(part)]
        if id(part) in entered:
            raise ValueError("an alias contains itself; recursive aliases are not supported")
        entered.add(id(part))
        children: list[yaml.Node] = []
        if isinstance(part, yaml.MappingNode):
            children = [item for pair in part.value for item in pair]
        elif isinstance(part, yaml.SequenceNode):
            children = part.value
        total = 1 + sum(size(child) for child in children)
        if total > MAX_NODES:
            raise ValueError(f"more than {MAX_NODES:,} values after its aliases are expanded")
        sizes[id(part)] = total
        return total

    size(node)


def check_interpolations(values: dict[str, Any]) -> None:
    """Check the length of a configuration after its interpolations are resolved.

    Only interpolations whose length can be computed are accepted: references to other keys, such as ``${a.b}`` and
    ``${.c}``, and environment variables.

    Raises:
        ValueError: The configuration is longer than ``MAX_CHARACTERS``.
        InvalidValueError: An interpolation is of an unsupported kind.
    """
    lengths: dict[Key, int] = {}
    entered: set[Key] = set()

    def length(value: Any, key: Key) -> int:
        if isinstance(value, dict):
            total = sum(length(item, (*key, str(name))) for name, item in value.items())
        elif isinstance(value, list):
            total = sum(length(item, (*key, str(index))) for index, item in enumerate(value))
        elif isinstance(value, str) and "${" in value:
            total = len(value) + sum(length_of(_absolute(name, key)) for name in _references(value, key))
        else:
            total = len(str(value))
        if total > MAX_CHARACTERS:
            raise ValueError(f"longer than {MAX_CHARACTERS:,} characters after its interpolations are resolved")
        return total

    def length_of(key: Key) -> int:
        if key not in lengths and key not in entered:
            entered.add(key)  # OmegaConf reports circular references
            lengths[key] = length(_look_up(values, key), key)
        return lengths.get(key, 0)

    length(values, ())


def _references(text: str, key: Key) -> list[str]:
    """Return the names to which the interpolations in the text at ``key`` refer.

    Raises:
        InvalidValueError: An interpolation calls a function other than ``oc.env``, or its key contains another
            interpolation.
    """
    names = []
    for name, end in _INTERPOLATION.findall(text):
        if end == ":" and name != "oc.env":
            problem = f"${{{name}:...}} is not supported; use ${{oc.env:NAME}} or a reference to a key"
            raise InvalidValueError(".".join(key), problem)
        if end == "${":
            raise InvalidValueError(".".join(key), "the key of an interpolation cannot contain an interpolation")
        names += [name] if end == "}" else []
    return names


def _absolute(name: str, key: Key) -> Key:
    """Return the absolute key of a reference in the value at ``key``. A leading dot refers to the value's container."""
    dots = len(name) - len(name.lstrip("."))
    parts = tuple(part for part in re.split(r"[.\[\]]+", name) if part)
    return (*key[: max(0, len(key) - dots)], *parts) if dots else parts


def _look_up(values: Any, key: Key) -> Any:
    """Return the value at a key, or "" if it does not exist."""
    for part in key:
        if isinstance(values, dict):
            values = values.get(part, "")
        elif isinstance(values, list) and part.isdecimal() and int(part) < len(values):
            values = values[int(part)]
        else:
            return ""
    return values
