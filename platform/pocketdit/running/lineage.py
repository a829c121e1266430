"""The parents of a run, which are recorded with their full names and the hashes of their weights."""

import json
from pathlib import Path
from typing import Any, TypeVar

from pocketdit.artifacts.run_folder import RunFolder, find, is_first_process
from pocketdit.config.experiment import BaseExperiment
from pocketdit.config.load import Loaded
from pocketdit.config.override import change, escape
from pocketdit.errors import RunError
from pocketdit.files import sha256_of, write_atomically

ExperimentT = TypeVar("ExperimentT", bound=BaseExperiment)


def pin(loaded: Loaded[ExperimentT], recorded: dict[str, str]) -> Loaded[ExperimentT]:
    """Replace every parent with its full name, EXPERIMENT/RUN, which refers to the same run even after later runs.

    Args:
        loaded: The configuration.
        recorded: The recorded parents of a resumed run, which are kept if the configuration still refers to them.

    Raises:
        RunError: A parent does not exist.
    """
    experiment = loaded.config
    pinned = {}
    for role, run in experiment.parents.items():
        known = recorded.get(role, "")
        pinned[role] = known if known.startswith(f"{run}/") else full_name(Path(experiment.runs), run)
    return loaded.override([change("parents", {role: escape(name) for role, name in pinned.items()})])


def full_name(runs: Path, run: str) -> str:
    """Return EXPERIMENT/RUN for a run under ``runs``, and the path of any other run."""
    folder = find(runs, run)
    path = folder.path.resolve()
    return folder.name if (runs / folder.name).resolve() == path else str(path)


def parents(experiment: BaseExperiment) -> dict[str, RunFolder]:
    """Return the run folder of each parent, by role. Raises ``RunError`` if a parent does not exist."""
    return {role: find(Path(experiment.runs), run) for role, run in experiment.parents.items()}


def tags(experiment: BaseExperiment) -> dict[str, str]:
    """Return the names of the parents and the hashes of their weights as MLflow tags."""
    tags = {}
    for role, folder in parents(experiment).items():
        tags[f"parent.{role}"] = folder.name
        if folder.weights.is_file():
            tags[f"parent.{role}.weights_sha256"] = sha256_of(folder.weights)
    return tags


def verify(folder: RunFolder, experiment: BaseExperiment) -> dict[str, str]:
    """Record a new run's parents in ``parents.json``, or check a resumed run's parents against this file.

    Returns:
        The MLflow tags that identify the parents.

    Raises:
        RunError: The file is damaged, or a parent's weights have changed since the run began, so that a resumed run
            would train differently.
    """
    current, file = tags(experiment), folder.path / "parents.json"
    if not is_first_process():  # another process might write the file before the first one creates the folder
        return current
    if not file.is_file():
        write_atomically(file, json.dumps(current, indent=1))
        return current
    try:
        recorded = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        recorded = None
    if not isinstance(recorded, dict):
        raise RunError(f"{file} is damaged; delete it to resume {folder.name} with the current weights of its parents")
    if changed := differences(recorded, current):
        role = min(changed).split(".")[1]
        parent = current.get(f"parent.{role}")
        raise RunError(
            f"parents.{role}: the weights of {parent} have changed since {folder.name} began; start a new run"
        )
    return current


def unfinished(experiment: BaseExperiment) -> list[str]:
    """Return the names of the parents that have not finished training."""
    return [folder.name for folder in parents(experiment).values() if not folder.finished.is_file()]


def differences(a: Any, b: Any, key: str = "") -> dict[str, tuple[Any, Any]]:
    """Return the dotted keys whose values differ, along with both values."""
    if isinstance(a, dict) and isinstance(b, dict):
        result: dict[str, tuple[Any, Any]] = {}
        for name in [*a, *(name for name in b if name not in a)]:
            result |= differences(a.get(name), b.get(name), f"{key}.{name}" if key else str(name))
        return result
    return {} if a == b else {key: (a, b)}
