"""Read ``pocketdit.toml``, which lists the modules and trackers that the user of a project trusts.

The file is only read from the working directory. Run folders, export bundles and downloaded files, which may come from
other people, cannot extend these lists.
"""

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path

from pocketdit.config.errors import did_you_mean_or_all
from pocketdit.errors import ConfigError

FILE_NAME = "pocketdit.toml"
TABLE = "trust"


@dataclass(frozen=True)
class Project:
    """The table ``[trust]`` of ``pocketdit.toml``.

    Attributes:
        modules: Modules and packages whose classes YAML files may name, in addition to those of PocketDiT.
        trackers: Tracking URIs to which ``lightning sync`` and ``--resume`` may send runs of other people.
    """

    modules: tuple[str, ...] = ()
    trackers: tuple[str, ...] = ()


def read_project() -> Project:
    """Read ``pocketdit.toml`` in the working directory. If it does not exist, the lists are empty.

    Raises:
        ConfigError: The file is not valid TOML, or contains an unknown key or a value that is not a list of strings.
    """
    path = Path(FILE_NAME)
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Project()
    except (OSError, ValueError) as error:  # ValueError: not valid TOML or UTF-8
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from None
    for table in tables:
        if table != TABLE:
            raise ConfigError(f"{path}: unknown key {table!r}; the only table is [{TABLE}]")
    lists = tables.get(TABLE, {})
    if not isinstance(lists, dict):
        raise ConfigError(f"{path}: {TABLE} must be a table; write [{TABLE}]")
    names = [field.name for field in fields(Project)]
    for name, values in lists.items():
        if name not in names:
            raise ConfigError(f"{path}: unknown key '{TABLE}.{name}'{did_you_mean_or_all(name, names)}")
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise ConfigError(f'{path}: {TABLE}.{name} must be a list of strings, such as ["my_project"]')
    return Project(**{name: tuple(values) for name, values in lists.items()})
