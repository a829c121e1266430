"""Overrides of configuration values, from ``key=value`` arguments on the command line or from a program."""

import copy
import json
import re
from dataclasses import dataclass
from typing import Any

import yaml  # type: ignore[import-untyped]
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pocketdit.config.errors import InvalidValueError, dotted, join, show
from pocketdit.config.secrets import mask
from pocketdit.config.size import check_nesting
from pocketdit.config.typed import plain
from pocketdit.errors import ConfigError

_KEY = re.compile(r"[^\s.=\[\]]+(\.[^\s.=\[\]]+)*")


@dataclass(frozen=True)
class Override:
    """A key and its new value.

    Attributes:
        text: The override as text, for messages.
        key: Dotted key. List items are selected by index, as in ``levels.0.depth``.
        value: New value.

    Raises:
        ConfigError: ``key`` is not a dotted key.
    """

    text: str
    key: str
    value: Any

    def __post_init__(self) -> None:
        if not _KEY.fullmatch(self.key):
            raise ConfigError(f"{self.place}: {self.key!r} is not a valid key; use a dotted key such as levels.0.depth")

    @property
    def place(self) -> str:
        """Prefix of error messages about this override."""
        return place(self.text)

    def apply(self, values: dict[str, Any]) -> None:
        """Set the value in place. An existing mapping or list is replaced as a whole.

        Missing keys are added and are later checked against the schema. An index must refer to an existing list item.

        Raises:
            InvalidValueError: The key does not fit the structure of the values.
        """
        target, above = values, ""
        *parents, last = self.key.split(".")
        for part in parents:
            index = _index(target, part, above)
            if isinstance(target, dict) and target.get(index) is None:
                target[index] = {}
            target, above = target[index], join(above, part)
        target[_index(target, last, above)] = copy.deepcopy(self.value)  # later overrides may change it

    def concerns(self, key: str) -> bool:
        """Return whether this override can be the cause of an error at ``key``."""
        parent, _, name = self.key.rpartition(".")
        selects = name in ("class_path", "kind") and _within(key, parent)  # determines which sibling keys are valid
        return selects or _within(key, self.key) or _within(self.key, key)


def place(text: str) -> str:
    """Return the prefix of error messages about an override."""
    shown = mask(text)
    return f"command line ({shown if len(shown) <= 200 else shown[:197] + '...'})"


def change(key: str, value: Any) -> Override:
    """Create an override from a typed value, which is not parsed again.

    Raises:
        ConfigError: ``key`` is not a dotted key.
    """
    value = plain(value)
    return Override(f"{key}={json.dumps(value)}", dotted(key), value)


def parse(text: str) -> Override:
    """Parse an override of the form ``key=value``, whose value is YAML.

    Raises:
        ConfigError: The text does not have this form, or the value is not valid YAML.
    """
    key, equals, value = text.partition("=")
    text = " ".join(text.split())
    if not equals:
        raise ConfigError(f"{place(text)}: not of the form key=value")
    try:
        check_nesting(value)
        return Override(text, dotted(key), _value(value))
    except (OmegaConfBaseException, yaml.YAMLError, ValueError) as error:
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(f"{place(text)}: {key}: the value is not valid YAML: {problem}") from None


def _value(text: str) -> Any:
    """Parse YAML without support for comments, because YAML would drop the part of a value after " #"."""
    marks = [match.start() for match in re.finditer(r"(?<!\S)#", text)]
    scalars = [token for token in yaml.scan(text) if isinstance(token, yaml.ScalarToken)] if marks else []
    if all(any(s.start_mark.index <= mark < s.end_mark.index for s in scalars) for mark in marks):
        return OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]), resolve=False)["value"]  # type: ignore
    if text.lstrip().startswith(tuple("[{'\"|>&!*")):
        raise ValueError("' #' begins a comment; put the text that contains it in quotes")
    return text.strip()


def _index(target: Any, part: str, above: str) -> Any:
    if isinstance(target, dict):
        return part
    if not isinstance(target, list):
        raise InvalidValueError(join(above, part), f"{above} is {show(target)}, which has no keys")
    if not part.isdecimal() or int(part) >= len(target):
        raise InvalidValueError(join(above, part), f"{above} is a list of {len(target)} items, counted from 0")
    return int(part)


def _within(key: str, parent: str) -> bool:
    return f"{key}.".startswith(f"{parent}." if parent else "")
