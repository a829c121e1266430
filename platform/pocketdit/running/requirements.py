"""What a run needs from the file system, checked before anything heavy is imported."""

import warnings
from pathlib import Path

from pocketdit.artifacts.run_folder import find, is_first_process, require_free
from pocketdit.config.experiment import BaseExperiment
from pocketdit.errors import ConfigError, UserError


def require_parents(experiment: BaseExperiment) -> None:
    """Raise ``ConfigError`` if a run that this one builds on does not exist."""
    for role, run in experiment.parents.items():
        try:
            find(Path(experiment.runs), run)
        except UserError as error:
            raise ConfigError(f"parents.{role}: {error}") from error


def require_folder(experiment: BaseExperiment, resume: str | None, name: str | None) -> None:
    """Check that the run to resume exists, or that a new run's name is free.

    Only the process that leads the run checks: the others join its folder.

    Args:
        resume: Run to resume. An empty string is the latest run, if there is one; None starts a new run.
        name: Name of the new run; None names it by the time.
    """
    if not is_first_process():
        return
    if resume:
        find(Path(experiment.runs), resume)
    elif resume is None:
        require_free(Path(experiment.runs), experiment.experiment, name)


def quiet_warnings() -> None:
    """Hide library warnings that a user of the command line cannot act on."""
    warnings.filterwarnings("ignore", message=".*treespec, LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*but have no `validation_step`.*")
    warnings.filterwarnings("ignore", message=".*loader strategy is deprecated.*")
    warnings.filterwarnings("ignore", message=".*Grad strides do not match bucket view strides.*")
