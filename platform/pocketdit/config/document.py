"""Read a YAML file as plain values, and keep track of the line of each key."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pocketdit.config.errors import did_you_mean_path, dotted
from pocketdit.config.number_forms import MisreadNumberError, check_number_forms
from pocketdit.config.size import LOADER, MAX_BYTES, check_aliases, check_nesting
from pocketdit.errors import ConfigError


@dataclass(frozen=True)
class Document:
    """A parsed file.

    Attributes:
        path: Path of the file.
        node: Root node of the YAML document, from which line numbers are read.
        values: Plain values. Interpolations are not resolved.
    """

    path: Path
    node: yaml.Node
    values: dict[str, Any]

    def place(self, key: str) -> str:
        """Return ``file:line`` of a key or, if the file does not contain it, of its closest ancestor."""
        node, place = self.node, str(self.path)
        for part in key.split("."):
            if isinstance(node, yaml.MappingNode):
                entries = {name.value: (name, value) for name, value in node.value}
            else:
                entries = {str(i): (item, item) for i, item in enumerate(node.value)}
            if part not in entries:
                break
            name, node = entries[part]
            place = f"{self.path}:{name.start_mark.line + 1}"
        return place


def read(path: Path) -> Document:
    """Read a file that contains a YAML mapping.

    Raises:
        ConfigError: The file cannot be read or does not contain a YAML mapping. The message includes the line if it is
            known.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such file{did_you_mean_path(path, '*.y*ml')}")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"{path}: larger than {MAX_BYTES:,} bytes, which is too large for a configuration")
        text = path.read_text(encoding="utf-8")
        check_nesting(text)
        node: Any = yaml.compose(text, Loader=LOADER)
        if node is None:
            raise ConfigError(f"{path}: the file is empty")
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(f"{path}:{node.start_mark.line + 1}: the top level must be a mapping of keys to values")
        check_aliases(node)
        check_number_forms(node)
        values: Any = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    except OmegaConfBaseException as error:
        key, problem = dotted(error.full_key), str(error).splitlines()[0]
        place = Document(path, node, {}).place(key)
        raise ConfigError(f"{place}: {key}: not a valid value or interpolation: {problem}") from None
    except MisreadNumberError as error:
        raise ConfigError(f"{path}:{error.line}: {error}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{path}{_syntax_problem(error, text)}") from None
    return Document(path, node, {str(name): value for name, value in values.items()})


def _syntax_problem(error: Exception, text: str) -> str:
    mark = getattr(error, "problem_mark", None)
    if not isinstance(error, yaml.MarkedYAMLError) or mark is None:
        return f": not valid YAML: {str(error).splitlines()[0]}"
    line, hint = [*text.splitlines(), ""][mark.line], ""
    if "\t" in line[: len(line) - len(line.lstrip())]:
        hint = "; the line begins with a tab; indent it with spaces"
    elif "${" in line and "did not find expected" in str(error.problem):
        hint = "; put an interpolation inside {...} or [...] in quotes"
    return f":{mark.line + 1}: not valid YAML: {error.problem}{hint}"
