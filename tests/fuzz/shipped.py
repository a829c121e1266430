"""The YAML files of this repository, and the commands that load them."""

import functools
import random
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from evaluation.settings import Evaluation
from pocketdit.commands.recipe.command import is_recipe
from pocketdit.commands.recipe.settings import Recipe
from pocketdit.config.experiment import kind_of
from pocketdit.config.load import Loaded, load
from pocketdit.export.settings import settings_class
from sweeps.checks import load_sweep

ROOT = Path(__file__).parent.parent.parent
FOLDERS = {
    "run": ("experiments", "experiments/paper", "experiments/single_gpu", "experiments/emoji"),
    "evaluate": ("experiments/eval",),
    "export": ("experiments/export",),
    "sweep": ("sweeps", "sweeps/paper"),
}


class Shipped(NamedTuple):
    """A YAML file and the command that loads it."""

    command: str
    path: Path

    def load(self, path: Path, overrides: tuple[str, ...] = ()) -> Loaded[Any]:
        """Load a file of the same kind in the same way as the command."""
        match self.command:
            case "run":
                return load(path, overrides, Recipe if is_recipe(path) else kind_of(path))
            case "evaluate":
                return load(path, overrides, Evaluation)
            case "export":
                return load(path, overrides, settings_class(path))
            case _:
                return load_sweep(path, overrides)


def shipped() -> list[Shipped]:
    return [
        Shipped(command, path)
        for command, folders in FOLDERS.items()
        for folder in folders
        for path in sorted((ROOT / folder).glob("*.yaml"))
    ]


def choose(numbers: random.Random) -> Shipped:
    """Choose a random command, and one of the files that it loads."""
    command = numbers.choice(list(FOLDERS))
    return numbers.choice([file for file in shipped() if file.command == command])


@functools.cache
def entries_of(file: Shipped) -> dict[str, Any]:
    """Return a mapping from each dotted key in a file to its value."""
    return dict(entries(file.load(file.path).resolved))


def entries(values: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted key and the value of every entry in nested mappings and lists."""
    parts = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for part, value in parts:
        key = f"{above}.{part}" if above else str(part)
        yield key, value
        yield from entries(value, key)


def same(given: Any, taken: Any) -> bool:
    """Return whether the value ``taken`` from a configuration is the value that was given for it.

    A number may have another numeric type, a quoted number may have become a number, and a list may have become a
    tuple. A mapping may have been completed with defaults.
    """
    if isinstance(given, dict) and isinstance(taken, dict):
        return all(str(name) in taken and same(value, taken[str(name)]) for name, value in given.items())
    if isinstance(given, list) and isinstance(taken, list):
        return len(given) == len(taken) and all(map(same, given, taken))
    if isinstance(given, bool) or isinstance(taken, bool) or given is None or taken is None:
        return given is taken
    if isinstance(given, str) and isinstance(taken, str):
        return given == taken or str(Path(given).expanduser()) == taken
    if isinstance(given, str) and isinstance(taken, int | float):
        with suppress(ValueError):
            return float(given) == taken
    return bool(given == taken)
