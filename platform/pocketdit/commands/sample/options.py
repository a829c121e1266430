"""Checks of sampling settings and widths that a user chooses."""

import dataclasses
from collections.abc import Iterable
from typing import Any

from pocketdit.config.experiment import Experiment
from pocketdit.errors import ConfigError


def with_sampling(experiment: Experiment, **settings: Any) -> Experiment:
    """Return the experiment with other sampling settings.

    Raises:
        ConfigError: A setting is invalid, or the network does not support it.
    """
    try:
        experiment = dataclasses.replace(experiment, sampling=dataclasses.replace(experiment.sampling, **settings))
        experiment.check()
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return experiment


def select_widths(
    asked: Iterable[float] | None, experiment: Experiment, run: str, option: str = "--width "
) -> list[float]:
    """Return the widths to sample in ascending order: those that the user asked for, or all widths of the run.

    Args:
        asked: Widths that the user asked for.
        experiment: Configuration of the run.
        run: Name of the run.
        option: What the user writes before a width, for the message.

    Raises:
        ConfigError: The run does not have a width.
    """
    widths = sorted(experiment.backbone.widths)
    for width in asked or ():
        if width not in widths:
            known = ", ".join(f"{w:g}" for w in widths)
            raise ConfigError(f"{option}{width:g}: {run} only has the widths {known}")
    return sorted(set(asked or widths))
