"""An experiment's YAML with other values in it, kept as its author wrote it where that is possible."""

import itertools
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path

import yaml  # type: ignore[import-untyped]

from pocketdit.config import override
from pocketdit.config.experiment import Experiment
from pocketdit.config.load import Loaded, load
from pocketdit.errors import ConfigError
from pocketdit.files import write_atomically
from sweeps.looking.edit import set_values


def compose(base: Loaded[Experiment], path: Path, about: Sequence[str]) -> None:
    """Write ``base``, with its overrides, as the experiment ``path``, which must not exist yet.

    The opening comment is ``about``, with the commands of the original's; the comments inside stay, unless the text
    could not be changed to mean the same: then the resolved values are written without. ``ConfigError`` where
    ``path`` exists or is no name of an experiment.
    """
    if path.exists():
        raise ConfigError(f"{path} exists already: give another name, or remove it first")
    if path.suffix != ".yaml":
        raise ConfigError(f"{path}: an experiment is a file that ends in .yaml")
    wanted = base.override([f"experiment={path.stem}"])
    original = base.path.read_text()
    opening = list(itertools.takewhile(lambda line: line.startswith("#"), original.splitlines(keepends=True)))
    named = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    itself = re.compile(rf"\S*\b{re.escape(base.path.name)}")
    commands = [itself.sub(str(named), line) for line in opening if line.startswith("#   lightning ")]
    head = "".join(_comment(line) for line in [about[0], ""])
    head += "".join(commands)
    head += "".join(_comment(line) for line in ["", *about[1:]])

    def write(temporary: Path) -> None:
        changes = [(change.key, change.value) for change in map(override.parse, wanted.overrides)]
        try:
            edited = set_values("".join(original.splitlines(keepends=True)[len(opening) :]), changes)
            temporary.write_text(head + edited)
            faithful = load(temporary, [], Experiment).resolved == wanted.resolved
        except (ValueError, yaml.YAMLError, ConfigError):
            faithful = False
        if not faithful:
            temporary.write_text(f"{head}\n{wanted.to_yaml()}")
            load(temporary, [], Experiment)

    write_atomically(path, write)


def _comment(text: str) -> str:
    return "".join(f"# {line}".rstrip() + "\n" for line in textwrap.wrap(text, 116) or [""])
