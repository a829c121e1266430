"""Selects the folder that a run trains in: a new folder, or the folder of the run to resume."""

import contextlib
import os
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from pocketdit.artifacts import run_folder
from pocketdit.artifacts.run_folder import RunFolder, environment_number, inherited_folder, launched_rank
from pocketdit.config.experiment import AnyExperiment, BaseExperiment
from pocketdit.config.load import Loaded
from pocketdit.errors import ConfigError, RunError
from pocketdit.running.lineage import differences

# Settings that a resumed run may change without --allow-changes, because they do not affect its training steps.
FREE_KEYS = (
    "training.log_every",
    "training.validate_every",
    "training.checkpoint_every",
    "training.sample_every",
    "training.compile",
    "training.gradient_checkpointing",
    "training.sharding.checkpoint",
    "sampling",
    "tracking",
    "data.init_args.workers",
    "runs",
    "stage.init_args.teacher.init_args.runs",
)
# Settings that a resumed run cannot change even with --allow-changes. The checkpoint does not fit a different network,
# it restores the optimizer's settings, and the run has already started from its parents.
FIXED_KEYS = ("optimizer", "backbone", "decoder", "parents")
# How long the other processes wait until the first one has restored the checkpoint.
RESTORE_SECONDS = 600


def find_resumed(experiment: BaseExperiment, resume: str | None, name: str | None) -> RunFolder | None:
    """Return the run to resume, or None to start a new one.

    Args:
        experiment: The configuration.
        resume: The name or path of the run. "" selects the experiment's run ``name`` or, without a name, its latest
            run, if there is one. None selects a new run.
        name: Name of a new run, or None.

    Raises:
        ConfigError: ``resume`` and ``name`` refer to different runs.
        RunError: The run does not exist.
    """
    if resume is None:
        return None
    if inherited := inherited_folder():
        return inherited
    runs = Path(experiment.runs)
    if resume:
        folder = run_folder.find(runs, resume)
        if name not in (None, folder.path.name):
            raise ConfigError(f"--name {name}: --resume continues {folder.name}; omit --name, or omit --resume")
        return folder
    if name is not None:
        folder = RunFolder(runs / experiment.experiment / name)
        return folder if folder.config.is_file() else None
    with contextlib.suppress(RunError):
        return run_folder.find(runs, experiment.experiment)
    return None


def prepare_resumed(folder: RunFolder) -> None:
    """Remove the files that a killed process left in the folder, and point ``latest`` to the run.

    The first process does this. If it must restore the checkpoint, the other processes wait for it. Otherwise, they
    could start without a checkpoint.

    Raises:
        RunError: The first process has not restored the checkpoint in time.
    """
    if launched_rank() == 0:
        folder.clean()
        run_folder.point_latest_at(folder)
        return
    deadline = time.monotonic() + RESTORE_SECONDS
    while folder.lacks_checkpoint():
        if time.monotonic() > deadline:
            raise RunError(
                f"{folder.checkpoint}: process 0 has not restored the checkpoint within {RESTORE_SECONDS} s; start all "
                "processes of the run again"
            )
        time.sleep(0.1)


def new_folder(experiment: BaseExperiment, name: str | None) -> RunFolder:
    """Return the folder of a new run, which the first process creates for all processes with ``create_folder``."""
    if inherited := inherited_folder():
        return inherited
    name = name or launcher_name() or datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    return RunFolder(Path(experiment.runs) / experiment.experiment / name)


def create_folder(folder: RunFolder, experiment: BaseExperiment, loaded: Loaded[AnyExperiment]) -> None:
    """Create the folder of a new run. Raises ``ConfigError`` if it already exists."""
    run_folder.create(Path(experiment.runs), experiment.experiment, folder.path.name, loaded.to_yaml())


def launcher_name() -> str | None:
    """Return a run name that all processes of torchrun or srun share, or None if there is only one process."""
    if (environment_number("WORLD_SIZE", "SLURM_NTASKS") or 1) < 2:
        return None
    for variable in ("TORCHELASTIC_RUN_ID", "SLURM_JOB_ID"):
        value = os.environ.get(variable)
        if value and value != "none":
            return f"{variable.split('_')[0].lower()}-{value}"
    raise ConfigError("--name is required if a launcher starts several processes; pass the same name to all of them")


def require_same_settings(recorded: dict[str, Any], current: dict[str, Any], folder: RunFolder, allow: bool) -> bool:
    """Compare the settings of a resumed run with the settings that it began with.

    Args:
        recorded: The resolved configuration that the run began with.
        current: The current resolved configuration.
        folder: The run folder.
        allow: Whether to accept changes of settings that are not in ``FIXED_KEYS``.

    Returns:
        Whether the training steps are affected by accepted changes.

    Raises:
        ConfigError: The settings differ, and the changes are not accepted or affect ``FIXED_KEYS``.
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
            "Start a new run without --resume, or add --allow-changes to resume with the new settings"
        )
    return bool(changed)
