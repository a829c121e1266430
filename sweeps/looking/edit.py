"""Values of a YAML changed in its text, so that comments, order and spacing stay."""

import re
from collections.abc import Iterable
from typing import Any

import yaml  # type: ignore[import-untyped]

# The rest of a line: closing brackets and other entries up to a comment.
_BEHIND = re.compile(r"\A([^\n#'\"]*?)[ \t]+#[^\n]*")


def set_values(text: str, changes: Iterable[tuple[str, Any]]) -> str:
    """``text`` with every dotted key (list items by number) set to its value, one after the other.

    A value that changes loses the comments inside it and behind it on its line, which were about the old one; a key
    that is missing is put last in its mapping. ``ValueError`` where a key leads through a value that has no keys.
    """
    for key, value in changes:
        text = _set(text, key, value)
    return text


def _set(text: str, key: str, value: Any) -> str:
    node: Any = yaml.compose(text, Loader=yaml.SafeLoader)
    parts = key.split(".")
    for index, part in enumerate(parts):
        child = _child(node, part)
        if child is None:
            for missing in reversed(parts[index + 1 :]):
                value = {missing: value}
            return _insert(text, node, part, value)
        node = child
    start, end = node.start_mark.index, _end(text, node)
    if yaml.SafeLoader("").construct_document(node) == value:
        return text
    return text[:start] + _flow(value) + _BEHIND.sub(r"\1", text[end:], count=1)


def _child(node: Any, part: str) -> Any:
    match node:
        case yaml.MappingNode():
            return next((value for name, value in node.value if name.value == part), None)
        case yaml.SequenceNode() if part.isdecimal() and int(part) < len(node.value):
            return node.value[int(part)]
        case _:
            raise ValueError(f"{part!r} is no entry of line {node.start_mark.line + 1}")


def _insert(text: str, mapping: Any, name: str, value: Any) -> str:
    if not isinstance(mapping, yaml.MappingNode):
        raise ValueError(f"line {mapping.start_mark.line + 1} has no keys")
    end = _end(text, mapping)
    if mapping.flow_style:
        separator = ", " if mapping.value else ""
        return f"{text[: end - 1]}{separator}{name}: {_flow(value)}{text[end - 1 :]}"
    line_end = text.find("\n", end)  # behind a comment that stands on the line
    end = line_end if line_end >= 0 else len(text)
    return f"{text[:end]}\n{' ' * mapping.start_mark.column}{name}: {_flow(value)}{text[end:]}"


def _end(text: str, node: Any) -> int:
    """Where a node's last character ends; PyYAML ends a block after the comments that follow it."""
    if isinstance(node, yaml.ScalarNode) or node.flow_style or not node.value:
        return len(text[: node.end_mark.index].rstrip())
    last = node.value[-1]
    return _end(text, last[1] if isinstance(node, yaml.MappingNode) else last)


def _flow(value: Any) -> str:
    """On one line, quoted so that it may stand anywhere, also inside brackets."""
    text = yaml.safe_dump([value], default_flow_style=True, width=float("inf"), sort_keys=False, allow_unicode=True)
    return str(text).strip()[1:-1]
