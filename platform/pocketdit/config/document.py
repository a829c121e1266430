"""A YAML file as plain values, with the line of every key."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pocketdit.config.errors import did_you_mean_path, dotted
from pocketdit.errors import ConfigError


@dataclass(frozen=True)
class Document:
    """A parsed file. The interpolations in ``values`` are not resolved."""

    path: Path
    node: yaml.MappingNode
    values: dict[str, Any]

    def place(self, key: str) -> str:
        """Return ``file:line`` of the key, or of the nearest key above it that the file contains."""
        node, line = self.node, None
        for part in key.split("."):
            entries = {}
            if isinstance(node, yaml.MappingNode):
                entries = {name.value: (name, value) for name, value in node.value}
            elif isinstance(node, yaml.SequenceNode):
                entries = {str(i): (item, item) for i, item in enumerate(node.value)}
            if part not in entries:
                break
            named, node = entries[part]
            line = named.start_mark.line + 1
        return f"{self.path}:{line}" if line else str(self.path)


def read(path: Path) -> Document:
    """Read a file that holds a YAML mapping.

    Raises:
        ConfigError: It holds anything else; the message gives the line if the YAML parser does.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such file{did_you_mean_path(path, '*.y*ml')}")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8 text") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        node = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        if node is None:
            raise ConfigError(f"{path}: is empty")
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(f"{path}:{node.start_mark.line + 1}: the top level must be a mapping of keys")
        values = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
    except yaml.MarkedYAMLError as error:
        raise ConfigError(f"{path}{_syntax_problem(error, text)}") from None
    except OmegaConfBaseException as error:
        key, problem = dotted(error.full_key), str(error).splitlines()[0]
        assert isinstance(node, yaml.MappingNode)  # else the checks above would have raised
        place = Document(path, node, {}).place(key)
        raise ConfigError(f"{place}: {key}: not a valid value or interpolation: {problem}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{path}: not valid YAML: {str(error).splitlines()[0]}") from None
    assert isinstance(values, dict)
    return Document(path, node, {str(name): value for name, value in values.items()})


def _syntax_problem(error: yaml.MarkedYAMLError, text: str) -> str:
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return f": not valid YAML: {error.problem}"
    line = [*text.splitlines(), ""][mark.line]
    hint = ""
    if "\t" in line[: len(line) - len(line.lstrip())]:
        hint = "; the line begins with a tab, YAML indents with spaces"
    elif "${" in line and "did not find expected" in str(error.problem):
        hint = "; put an interpolation inside {...} or [...] in quotes"
    return f":{mark.line + 1}: not valid YAML: {error.problem}{hint}"
