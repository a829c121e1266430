"""The runs that a run builds on, by their full names, so that it can be told and done again where it came from."""

import json
from pathlib import Path
from typing import Any, TypeVar

from pocketdit.artifacts.run_folder import RunFolder, find
from pocketdit.config.experiment import BaseExperiment
from pocketdit.config.load import Loaded
from pocketdit.errors import RunError
from pocketdit.files import sha256_of, write_atomically

START = "start"

Kind = TypeVar("Kind", bound=BaseExperiment)


def pin(loaded: Loaded[Kind], recorded: dict[str, str]) -> Loaded[Kind]:
    """The same configuration with every parent as EXPERIMENT/RUN, also where it names an experiment's latest run.

    ``recorded``: what a run that is gone on with began with; it stays where the configuration still means it.
    Raises ``RunError`` where a parent is not there.
    """
    experiment = loaded.config
    named = {}
    for role, run in experiment.parents.items():
        known = recorded.get(role, "")
        named[role] = known if known.startswith(f"{run}/") else full_name(Path(experiment.runs), run)
    return loaded.override([f"parents.{role}={name}" for role, name in named.items()])


def full_name(runs: Path, run: str) -> str:
    """EXPERIMENT/RUN where it lies under ``runs``, else its path."""
    folder = find(runs, run)
    below = (runs / folder.name).resolve() == folder.path
    return folder.name if below else str(folder.path)


def parents(experiment: BaseExperiment) -> dict[str, RunFolder]:
    """Every role's run. Raises ``RunError`` where one is not there."""
    return {role: find(Path(experiment.runs), run) for role, run in experiment.parents.items()}


def tags(experiment: BaseExperiment) -> dict[str, str]:
    """What the tracking is told: each parent's name and the hash of its weights."""
    found = {}
    for role, folder in parents(experiment).items():
        found[f"parent.{role}"] = folder.name
        if folder.weights.is_file():
            found[f"parent.{role}.weights_sha256"] = sha256_of(folder.weights)
    return found


def verify(folder: RunFolder, experiment: BaseExperiment) -> dict[str, str]:
    """``tags``, kept in ``parents.json`` of a new run, and compared with it where the run is gone on with.

    Raises ``RunError`` where a parent has other weights than when the run began: its steps would be others.
    """
    now, file = tags(experiment), folder.path / "parents.json"
    if not file.is_file():
        write_atomically(file, json.dumps(now, indent=1))
    elif changed := differences(json.loads(file.read_bytes()), now):
        role = min(changed).split(".")[1]
        raise RunError(f"parents.{role}: {now.get(f'parent.{role}')} has other weights than when {folder.name} began")
    return now


def unfinished(experiment: BaseExperiment) -> list[str]:
    """Parents that are taken as they stand although their training has not ended."""
    return [folder.name for folder in parents(experiment).values() if not folder.finished.is_file()]


def differences(a: Any, b: Any, key: str = "") -> dict[str, tuple[Any, Any]]:
    """Dotted keys whose values differ, with both values."""
    if isinstance(a, dict) and isinstance(b, dict):
        found: dict[str, tuple[Any, Any]] = {}
        for name in [*a, *(n for n in b if n not in a)]:
            found |= differences(a.get(name), b.get(name), f"{key}.{name}" if key else str(name))
        return found
    return {} if a == b else {key: (a, b)}
