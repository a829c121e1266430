"""Checks the sampling settings and the widths that a user chooses."""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any, get_args

from pocketdit.config.errors import did_you_mean
from pocketdit.config.experiment import Experiment
from pocketdit.diffusion.sampler_names import SamplerName
from pocketdit.errors import ConfigError


def with_sampling(experiment: Experiment, **settings: Any) -> Experiment:
    """Return the experiment with other sampling settings.

    Raises:
        ConfigError: A setting is invalid, or the network does not support it.
    """
    known = get_args(SamplerName)
    if (sampler := settings.get("sampler", known[0])) not in known:
        raise ConfigError(f"sampler: {sampler!r} is not one of {', '.join(known)}{did_you_mean(sampler, known)}")
    try:
        experiment = dataclasses.replace(experiment, sampling=dataclasses.replace(experiment.sampling, **settings))
        experiment.check()
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return experiment


def select_widths(
    asked: Iterable[float] | None, experiment: Experiment, run: str, option: str = "--width "
) -> list[float]:
    """Return the widths to sample in ascending order: those that the user requested, or all widths of the run.

    Args:
        asked: Widths that the user requested.
        experiment: Configuration of the run.
        run: Name of the run.
        option: Text that error messages show before a width, such as ``--width``.

    Raises:
        ConfigError: The run does not have one of the requested widths.
    """
    widths = sorted(experiment.backbone.widths)
    for width in asked or ():
        if width not in widths:
            known = ", ".join(f"{w:g}" for w in widths)
            raise ConfigError(f"{option}{width:g}: {run} only has the widths {known}")
    return sorted(set(asked or widths))


def require_seeds(seeds: Sequence[int], option: str) -> None:
    """Raise ``ConfigError`` unless the seeds are distinct and not negative."""
    if wrong := [seed for seed in seeds if seed < 0 or seeds.count(seed) > 1]:
        raise ConfigError(f"{option} {wrong[0]}: the seeds must be distinct and not negative")


def require_lora_scale(scale: float, option: str) -> None:
    """Raise ``ConfigError`` unless the strength of a LoRA is a finite number."""
    if not math.isfinite(scale):
        raise ConfigError(f"{option} {scale:g}: must be a finite number; 0 samples from the network without its LoRA")
