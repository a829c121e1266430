"""File-system checks that run before any expensive imports."""

import re
import warnings
from pathlib import Path

from pocketdit.artifacts.run_folder import find, is_first_process, require_free
from pocketdit.config.errors import did_you_mean
from pocketdit.config.experiment import START, AnyExperiment, BaseExperiment
from pocketdit.config.load import Loaded
from pocketdit.errors import ConfigError, UserError
from pocketdit.running.folders import find_resumed


def require_parents(loaded: Loaded[AnyExperiment]) -> None:
    """Check that the parents of a run exist and are used.

    Raises:
        ConfigError: A parent does not exist, or its role has no effect.
    """
    experiment = loaded.config
    for role in experiment.parents:
        require_role(loaded, role)
    for role, run in experiment.parents.items():
        try:
            find(Path(experiment.runs), run)
        except UserError as error:
            raise ConfigError(f"parents.{role}: {error}") from error


def require_role(loaded: Loaded[AnyExperiment], role: str) -> None:
    """Raise ``ConfigError`` if the experiment does not use the parent with this role."""
    texts = [loaded.path.read_text(), *map(str, loaded.overrides)]
    used = {START, *(name for text in texts for name in re.findall(r"\$\{parents\.([^}]+)\}", text))}
    if role not in used:
        raise ConfigError(
            f"parents.{role}: has no effect, because {loaded.path} does not contain ${{parents.{role}}}"
            f"{did_you_mean(role, used)}"
        )


def require_folder(experiment: BaseExperiment, resume: str | None, name: str | None) -> None:
    """Check that the run to resume exists, or that a new run's name is free.

    Only the first process performs this check, because the other processes use the same folder.

    Args:
        experiment: The configuration.
        resume: The run to resume. "" resumes a run if it exists, and None starts a new run.
        name: Name of a new run. Defaults to the current time.

    Raises:
        ConfigError: The name of the new run is already taken or invalid, or differs from that of the run to resume.
        RunError: The run to resume does not exist.
    """
    if not is_first_process():
        return
    if find_resumed(experiment, resume, name) is None:
        require_free(Path(experiment.runs), experiment.experiment, name)


def quiet_warnings() -> None:
    """Hide library warnings that command-line users cannot act on."""
    warnings.filterwarnings("ignore", message=".*treespec, LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*but have no `validation_step`.*")
    warnings.filterwarnings("ignore", message="Total length of `list` across ranks is zero.*")  # see ValidationNote
    warnings.filterwarnings("ignore", message=".*loader strategy is deprecated.*")
    warnings.filterwarnings("ignore", message=".*Grad strides do not match bucket view strides.*")
