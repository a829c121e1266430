"""Overrides of an experiment's settings: pairs of a dotted key and a typed value."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pocketdit.config.experiment import Experiment
from pocketdit.config.load import Loaded, load
from pocketdit.config.override import change

KeyValue = tuple[str, Any]


def load_experiment(path: Path, overrides: Iterable[KeyValue]) -> Loaded[Experiment]:
    """Load the experiment ``path`` with ``overrides`` applied in order.

    Raises:
        ConfigError: The experiment does not accept the overrides.
    """
    return load(path, [change(key, value) for key, value in overrides], Experiment)


def flatten(values: Mapping[str, Any], prefix: str = "") -> list[KeyValue]:
    """List the leaves of nested mappings with their dotted keys. An empty mapping is a leaf."""
    leaves: list[KeyValue] = []
    for name, value in values.items():
        key = f"{prefix}{name}"
        leaves += flatten(value, f"{key}.") if isinstance(value, dict) and value else [(key, value)]
    return leaves
