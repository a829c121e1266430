"""Choose the folder that a run trains in: a new one, or that of the run it resumes."""

import contextlib
import os
from pathlib import Path
from typing import Any

from pocketdit.artifacts import run_folder
from pocketdit.artifacts.run_folder import RunFolder, inherited_folder, launched_rank
from pocketdit.config.experiment import BaseExperiment
from pocketdit.config.load import Loaded
from pocketdit.errors import ConfigError, RunError
from pocketdit.running.lineage import differences

# Settings that a resumed run may change without --allow-changes: they do not alter its training steps.
FREE_KEYS = (
    "training.log_every",
    "training.validate_every",
    "training.checkpoint_every",
    "training.sample_every",
    "training.compile",
    "training.gradient_checkpointing",
    "sampling",
    "tracking",
    "data.init_args.workers",
    "runs",
    "stage.init_args.teacher.init_args.runs",
)
# If one of these settings changes, the checkpoint cannot be loaded.
FIXED_KEYS = ("optimizer", "backbone", "decoder", "parents")


def find_resumed(experiment: BaseExperiment, resume: str | None) -> RunFolder | None:
    """Return the run to resume, or None to start a new one.

    Args:
        experiment: The configuration.
        resume: The run's name or path; "" for the experiment's latest run, if there is one; None for a new run.
    """
    if resume is None:
        return None
    if inherited := inherited_folder():
        return inherited
    with contextlib.suppress(RunError) if resume == "" else contextlib.nullcontext():
        return run_folder.find(Path(experiment.runs), resume or experiment.experiment)
    return None


def prepare_resumed(folder: RunFolder) -> None:
    """Clean up what a killed process left in the folder, and make the run the latest."""
    if launched_rank() == 0:
        folder.clean()
        run_folder.point_latest_at(folder)


def new_folder(experiment: BaseExperiment, loaded: Loaded, name: str | None) -> RunFolder:
    """Return the folder of a new run, which the first process creates for all processes."""
    if inherited := inherited_folder():
        return inherited
    runs, run_name = Path(experiment.runs), name or launcher_name()
    if launched_rank() > 0 and run_name:
        return RunFolder(runs / experiment.experiment / run_name)
    return run_folder.create(runs, experiment.experiment, run_name, loaded.to_yaml())


def launcher_name() -> str | None:
    """Return a run name on which all processes of an external launcher agree (torchrun, srun); None without one."""
    if int(os.environ.get("WORLD_SIZE") or os.environ.get("SLURM_NTASKS") or 1) < 2:
        return None
    for variable in ("TORCHELASTIC_RUN_ID", "SLURM_JOB_ID"):
        value = os.environ.get(variable)
        if value and value != "none":
            return f"{variable.split('_')[0].lower()}-{value}"
    raise ConfigError(
        "--name: required when several processes are launched externally; pass the same name to all of them"
    )


def reject_changes(recorded: dict[str, Any], current: dict[str, Any], folder: RunFolder, allow: bool) -> None:
    """Raise ``ConfigError`` if a resumed run would train with different settings than it began with.

    Args:
        recorded: The resolved configuration that the run began with.
        current: The resolved configuration now.
        folder: The run folder.
        allow: Whether to accept changes after which the checkpoint can still be loaded.
    """
    free = (*FREE_KEYS, "training.max_steps") if current["training"]["decay"] == "constant" else FREE_KEYS
    changed = {
        key: f"{key} changed from {old} to {new}"
        for key, (old, new) in differences(recorded, current).items()
        if not any(key == name or key.startswith(f"{name}.") for name in free)
    }
    if fixed := [text for key, text in changed.items() if key.startswith(FIXED_KEYS)]:
        raise ConfigError(f"{folder.name} cannot be resumed: {'; '.join(fixed)}. Start a new run without --resume")
    if changed and not allow:
        raise ConfigError(
            f"{folder.name} began with a different configuration: {'; '.join(changed.values())}. "
            f"Start a new run without --resume, or add --allow-changes to resume it with the changes"
        )
