"""Writes an experiment with changed values, keeping the author's text and comments where possible."""

import itertools
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path

from ruamel.yaml.error import YAMLError

from pocketdit.config.experiment import Experiment
from pocketdit.config.load import load
from pocketdit.errors import ConfigError
from pocketdit.files import write_atomically
from sweeps.overrides import KeyValue, load_experiment
from sweeps.winner.yaml_edit import set_values


def compose(base: Path, overrides: Sequence[KeyValue], path: Path, about: Sequence[str]) -> None:
    """Write the experiment ``base`` with ``overrides`` to ``path``.

    Comments below the opening comment are kept. If the edited text does not load as the intended configuration, the
    resolved configuration is written instead, without comments.

    Args:
        base: The experiment to change.
        overrides: The changes, in order.
        path: The file to write.
        about: Paragraphs of the opening comment. The commands from the opening comment of ``base`` follow the first
            paragraph.

    Raises:
        ConfigError: ``path`` exists or does not end in .yaml.
    """
    if path.exists():
        raise ConfigError(f"{path} already exists; choose another file with --to, or remove it first")
    if path.suffix != ".yaml":
        raise ConfigError(f"{path}: the file name of an experiment must end in .yaml")
    overrides = [*overrides, ("experiment", path.stem)]
    target = load_experiment(base, overrides)
    lines = base.read_text().splitlines(keepends=True)
    opening = list(itertools.takewhile(lambda line: line.startswith("#"), lines))
    head = _opening_comment(opening, base, path, about)
    body = "".join(lines[len(opening) :])
    head += "\n" * (len(body) - len(body.lstrip("\n")))  # ruamel.yaml drops leading blank lines

    def write(temporary: Path) -> None:
        try:
            temporary.write_text(head + set_values(body, overrides))
            faithful = load(temporary, [], Experiment).resolved == target.resolved
        except (ValueError, YAMLError, ConfigError):
            faithful = False
        if not faithful:
            temporary.write_text(f"{head}\n{target.to_yaml()}")
            load(temporary, [], Experiment)

    write_atomically(path, write)


def _opening_comment(opening: Sequence[str], base: Path, path: Path, about: Sequence[str]) -> str:
    shown_path = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    base_path = re.compile(rf"\S*\b{re.escape(base.name)}")
    commands = [base_path.sub(str(shown_path), line) for line in opening if line.startswith("#   lightning ")]
    return "".join([_comment(about[0]), "#\n", *commands, "#\n", *map(_comment, about[1:])])


def _comment(text: str) -> str:
    return "".join(f"# {line}\n" for line in textwrap.wrap(text, 116))
