"""Changes values in the text of a YAML file while keeping its comments, order, and quoting."""

import io
import re
from collections.abc import Iterable
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import CommentMark
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import RoundTripRepresenter
from ruamel.yaml.tokens import CommentToken

from sweeps.overrides import KeyValue

LINE_WIDTH = 120


class _Representer(RoundTripRepresenter):
    """Writes null as ``null`` instead of an empty value."""

    def represent_none(self, data: None) -> ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:null", "null")


_Representer.add_representer(type(None), _Representer.represent_none)


def set_values(text: str, changes: Iterable[KeyValue]) -> str:
    """Set dotted keys to values, in order. In a key, a list item is referred to by its index.

    A changed value loses the comments inside it and at the end of its line, because they described the old value. A
    missing key is added at the end of its mapping.

    Raises:
        ValueError: A key refers to an entry of a scalar, or to a list item that does not exist.
    """
    yaml = _round_trip()
    document = yaml.load(text)
    for key, value in changes:
        _set(document, key, value)
    stream = io.StringIO()
    yaml.dump(document, stream)
    return stream.getvalue()


def _round_trip() -> YAML:
    yaml = YAML()
    yaml.Representer = _Representer
    yaml.preserve_quotes = True
    yaml.width = LINE_WIDTH
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def _set(document: CommentedMap, key: str, value: Any) -> None:
    container: Any = document
    path: list[tuple[Any, Any]] = []
    parts = key.split(".")
    for depth, part in enumerate(parts):
        index = _index(container, part, key)
        path.append((container, index))
        if isinstance(container, CommentedMap) and index not in container:
            for missing in reversed(parts[depth + 1 :]):
                value = {missing: value}
            _append(container, index, _in_flow_style(value))
            _drop_line_comments(path[:-1])
            return
        if depth < len(parts) - 1:
            container = container[index]
    if container[index] != value:
        below = _take_comment_below(container, index)
        container[index] = _in_flow_style(value)
        _set_comment_below(container, index, below)
        _drop_line_comments(path[:-1])


def _index(container: Any, part: str, key: str) -> Any:
    if isinstance(container, CommentedMap):
        return part
    if isinstance(container, CommentedSeq) and part.isdecimal() and int(part) < len(container):
        return int(part)
    raise ValueError(f"{key}: {part!r} is not an entry of its parent")


def _in_flow_style(value: Any) -> Any:
    """Copy a value, marking mappings and lists to be written on one line."""
    copy: CommentedMap | CommentedSeq
    if isinstance(value, dict):
        copy = CommentedMap({name: _in_flow_style(item) for name, item in value.items()})
    elif isinstance(value, list | tuple):
        copy = CommentedSeq([_in_flow_style(item) for item in value])
    else:
        return value
    copy.fa.set_flow_style()
    return copy


def _append(container: CommentedMap, key: str, value: Any) -> None:
    """Add a key above the comments that follow the mapping."""
    if container:
        below = _take_comment_below(container, next(reversed(container)))
    else:
        below = ""
        container.fa.set_flow_style()  # an empty mapping is written as {}
    container[key] = value
    _set_comment_below(container, key, below)


# ruamel.yaml stores the comment at the end of an entry's line, together with the comment lines up to the next entry, in
# one token of the innermost block entry that ends there. If the line has no comment, the lines below it are stored in
# ``end`` of the block.


def _comment_token(container: Any, index: Any) -> Any:
    tokens = container.ca.items.get(index)
    return tokens[_slot(container)] if tokens else None


def _slot(container: Any) -> int:
    return 2 if isinstance(container, CommentedMap) else 0


def _take_comment_below(container: Any, index: Any) -> str:
    """Remove the comment lines below an entry and return them."""
    value = container[index]
    if isinstance(value, CommentedMap | CommentedSeq) and value and not value.fa.flow_style():
        if not value.ca.end:
            last = next(reversed(value)) if isinstance(value, CommentedMap) else len(value) - 1
            return _take_comment_below(value, last)
        below = "\n" + "".join(token.value for token in value.ca.end)
        value.ca.end = []
        return below
    token = _comment_token(container, index)
    if token is None:
        return ""
    line, newline, below = token.value.partition("\n")
    token.value = line + newline
    return str(newline + below)


def _set_comment_below(container: Any, index: Any, below: str) -> None:
    """Replace the comment on an entry's line and below it with ``below``."""
    container.ca.items.pop(index, None)
    if below.strip("\n") or below.count("\n") > 1:
        tokens: list[CommentToken | None] = [None] * 4
        tokens[_slot(container)] = CommentToken(below, CommentMark(0), None)
        container.ca.items[index] = tokens


def _drop_line_comments(path: list[tuple[Any, Any]]) -> None:
    """Drop the end-of-line comments of the flow-style entries that contain a changed value.

    ``path`` lists its ancestors, outermost first.
    """
    for container, index in reversed(path):
        if not container[index].fa.flow_style():
            return
        if (token := _comment_token(container, index)) is not None:
            token.value = re.sub(r"\A[^\n]*", "", token.value)
