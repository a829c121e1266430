"""Reject numbers that YAML 1.1 does not read as decimal although they look decimal: 017 is 15, and 1:30 is 90."""

import re

import yaml  # type: ignore[import-untyped]

_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_OCTAL = re.compile(r"[-+]?0[0-7_]*[1-7][0-7_]*")


class MisreadNumberError(ValueError):
    """YAML 1.1 reads a number as octal or sexagesimal.

    Attributes:
        line: Line of the number, counted from 1.
    """

    def __init__(self, text: str, base: str, line: int) -> None:
        super().__init__(f"YAML reads {text} as {base} number; write it in decimal, or put it in quotes if it is text")
        self.line = line


def check_number_forms(node: yaml.Node) -> None:
    """Check the numbers in a YAML document, before aliases are expanded.

    Raises:
        MisreadNumberError: A number without quotes is octal or sexagesimal.
    """
    pending, seen = [node], set[int]()
    while pending:
        current = pending.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        if isinstance(current, yaml.MappingNode):
            pending += [part for pair in current.value for part in pair]
        elif isinstance(current, yaml.SequenceNode):
            pending += current.value
        elif current.tag in _NUMBERS and (base := _misread_base(current.value)):
            raise MisreadNumberError(current.value, base, current.start_mark.line + 1)


def _misread_base(text: str) -> str | None:
    if ":" in text:
        return "a base-60"
    return "an octal" if _OCTAL.fullmatch(text) else None
