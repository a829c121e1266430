"""Implements ``pocketdit.train``."""

from collections.abc import Mapping
from pathlib import Path

from pocketdit.api.configuration import Config, Overrides, as_file, as_overrides
from pocketdit.api.run import Run
from pocketdit.config.experiment import AnyExperiment, kind_of
from pocketdit.config.load import Loaded
from pocketdit.config.load import load as load_config


def train(
    experiment: Config,
    overrides: Overrides = (),
    *,
    resume: bool | str | None = None,
    name: str | None = None,
    allow_changes: bool = False,
    tags: Mapping[str, str] | None = None,
) -> Run:
    """Execute the stage that an experiment configures, and return the run.

    Args:
        experiment: YAML file of the experiment, or its content.
        overrides: Changes to the configuration.
        resume: True or "" resumes the run ``name`` or, without a name, the latest run of the experiment, and starts a
            new run if there is none. Any other string names the run to resume.
        name: Name of the new run. Defaults to the current time.
        allow_changes: Whether to accept settings that have changed since the resumed run began.
        tags: Tags of the run in MLflow.

    Raises:
        ConfigError: The configuration is invalid, or differs from that of the run to resume.
        RunError: Training cannot continue.
    """
    from pocketdit.running.requirements import quiet_warnings, require_folder, require_parents

    resumed = ("" if resume else None) if isinstance(resume, bool) else resume  # "" means the latest run
    with as_file(experiment) as file:
        kind, changes = kind_of(file), as_overrides(overrides)
        # First report errors that can be detected without importing any class.
        outline = load_config(file, changes, kind, classes=False)
        require_folder(outline.config, resumed, name)
        require_parents(outline)
        loaded: Loaded[AnyExperiment] = load_config(file, changes, kind)
        quiet_warnings()
        from pocketdit.running.data import require_available
        from pocketdit.running.fit import run

        require_available(loaded.config)
        return Run(run(loaded, resumed, name, allow_changes, tags=tags), Path(loaded.config.runs))
