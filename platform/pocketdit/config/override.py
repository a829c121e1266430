"""Overrides of configuration values, from ``key=value`` arguments on the command line or from a program."""

import copy
import json
import re
import shlex
from dataclasses import dataclass
from typing import Any

import yaml  # type: ignore[import-untyped]
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pocketdit.config.errors import InvalidValueError, dotted, join, show
from pocketdit.config.number_forms import MisreadNumberError, check_number_forms
from pocketdit.config.secrets import mask
from pocketdit.config.size import LOADER, MAX_DEPTH, check_nesting
from pocketdit.config.typed import plain
from pocketdit.errors import ConfigError

_KEY = re.compile(r"[^\s.=\[\]]+(\.[^\s.=\[\]]+)*")
# First characters of YAML values other than plain scalars.
_INDICATORS = tuple("[{'\"|>&!*")
_LONGEST_HINT = 200  # maximum number of characters of a value that a message repeats
_EMPTY = ("", "~", "null", "Null", "NULL", "''", '""')


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
        if self.key.count(".") >= MAX_DEPTH:
            raise ConfigError(f"{self.place}: the key is nested more than {MAX_DEPTH} levels deep")

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
        target[_index(target, last, above)] = copy.deepcopy(self.value)  # a copy, because later overrides may change it

    def concerns(self, key: str) -> bool:
        """Return whether this override can be the cause of an error at ``key``."""
        parent, _, name = self.key.rpartition(".")
        selects = name in ("class_path", "kind") and _within(key, parent)  # determines which sibling keys are valid
        return selects or _within(key, self.key) or _within(self.key, key)


def escape(text: str) -> str:
    """Escape every ``${`` in text that contains no interpolations."""
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", text)


def in_quotes(key: str, text: str) -> str:
    """Return the override whose value is the string ``text``, quoted for YAML and for the shell."""
    return shlex.quote(f"{key}={json.dumps(text, ensure_ascii=False)}")


def place(text: str) -> str:
    """Return the prefix of error messages about an override."""
    shown = mask(text)
    return f"command line ({shown if len(shown) <= 200 else shown[:197] + '...'})"


def change(key: str, value: Any) -> Override:
    """Create an override from a typed value, which is not parsed as YAML.

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
    except MisreadNumberError as error:
        raise ConfigError(f"{place(text)}: {key}: {error}") from None
    except (OmegaConfBaseException, yaml.YAMLError, ValueError) as error:
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        hint = f"; if it is text, write {mask(in_quotes(key, value))}" if len(value) <= _LONGEST_HINT else ""
        raise ConfigError(f"{place(text)}: {key}: the value is not valid YAML: {problem}{hint}") from None


def _value(text: str) -> Any:
    """Parse YAML, but keep plain text as it is.

    YAML would drop everything after " #", replace line breaks, and read "&x" and "---" as null.
    """
    is_plain = not text.lstrip().startswith(_INDICATORS)
    marks = [match.start() for match in re.finditer(r"(?<!\S)#", text)]
    scalars = [token for token in yaml.scan(text) if isinstance(token, yaml.ScalarToken)] if marks else []
    if not all(any(s.start_mark.index <= mark < s.end_mark.index for s in scalars) for mark in marks):
        if not is_plain:
            raise ValueError("' #' begins a comment; put the text that contains it in quotes")
        return text.strip()
    if (node := yaml.compose(text, Loader=LOADER)) is not None:
        check_number_forms(node)
    value = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]), resolve=False)["value"]  # type: ignore
    if value in (None, "") and text.strip() not in _EMPTY:
        raise ValueError("YAML reads it as an empty value")
    return text.strip() if is_plain and isinstance(value, str) else value


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
