"""Limits on the size of a configuration, which prevent a malicious file from exhausting the memory or the stack.

YAML aliases and interpolations repeat the values to which they refer, so ten lines can expand to gigabytes. Their
expanded size is therefore computed before they are expanded.
"""

import re
from typing import Any

import yaml  # type: ignore[import-untyped]

MAX_BYTES = 1_000_000
MAX_DEPTH = 50
MAX_NODES = 100_000
MAX_CHARACTERS = 1_000_000

_REFERENCE = re.compile(r"\$\{\s*([^${}:]+?)\s*\}")


def check_nesting(text: str) -> None:
    """Check the depth of nested brackets and indentation in YAML, before a recursive parser reads it.

    Raises:
        ValueError: The nesting is deeper than ``MAX_DEPTH``, or the text is longer than ``MAX_BYTES``.
    """
    if len(text) > MAX_BYTES:
        raise ValueError(f"longer than {MAX_BYTES:,} characters, which is too long for a configuration")
    depth = 0
    try:
        for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
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

    Raises:
        ValueError: The configuration is longer than ``MAX_CHARACTERS``.
    """
    lengths: dict[str, int] = {}
    entered: set[str] = set()

    def length(value: Any) -> int:
        if isinstance(value, dict):
            total = sum(length(item) for item in value.values())
        elif isinstance(value, list):
            total = sum(length(item) for item in value)
        elif isinstance(value, str) and "${" in value:
            total = len(value) + sum(length_of(name) for name in _REFERENCE.findall(value))
        else:
            total = len(str(value))
        if total > MAX_CHARACTERS:
            raise ValueError(f"longer than {MAX_CHARACTERS:,} characters after its interpolations are resolved")
        return total

    def length_of(name: str) -> int:
        if name not in lengths and name not in entered:
            entered.add(name)  # OmegaConf reports circular references
            lengths[name] = length(_look_up(values, name))
        return lengths.get(name, 0)

    length(values)


def _look_up(values: Any, name: str) -> Any:
    """Return the value at a dotted key, or "" if it does not exist. Relative keys are treated as absolute keys."""
    for part in re.split(r"[.\[\]]+", name.strip(".")):
        if isinstance(values, dict):
            values = values.get(part, "")
        elif isinstance(values, list) and part.isdecimal() and int(part) < len(values):
            values = values[int(part)]
        else:
            return ""
    return values
