"""Implements ``pocketdit.evaluate``."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pocketdit.api.configuration import Config, Overrides, as_file, as_overrides
from pocketdit.config.interpolated import require_used
from pocketdit.config.load import Loaded
from pocketdit.config.load import load as load_config
from pocketdit.config.override import Override

# Evaluation settings that have no effect unless a component refers to them by interpolation, as in ${width}.
INTERPOLATED = ("run", "width", "steps", "guidance", "sampler", "seed", "data", "device")

if TYPE_CHECKING:
    from evaluation.report.results import Report
    from evaluation.settings import Evaluation


def evaluate(evaluation: Config, overrides: Overrides = ()) -> "Report | None":
    """Sample the images of an evaluation once, and compute all of its metrics on them.

    Args:
        evaluation: YAML file of the evaluation, or its content.
        overrides: Changes to the configuration, such as ``{"run": "elastic_pretrain", "width": 0.5}``.

    Returns:
        The scores, and how they were measured. If several processes share the work, only the first one returns them,
        and the others return None.

    Raises:
        ConfigError: The configuration is invalid, or files of a judge are missing.
        UserError: The evaluation cannot continue.
    """
    from evaluation.report.results import load as load_results

    with as_file(evaluation) as file:
        folder = evaluate_loaded(load_evaluation(file, as_overrides(overrides)))
    return None if folder is None else load_results(folder)


def load_evaluation(file: Path, overrides: Sequence[str | Override]) -> "Loaded[Evaluation]":
    """Load the configuration of an evaluation, and check that every override has an effect.

    Raises:
        ConfigError: The configuration is invalid, or the file does not refer to an overridden key.
    """
    from evaluation.settings import Evaluation

    loaded = load_config(file, overrides, Evaluation)
    require_used(file, overrides, INTERPOLATED)
    return loaded


def evaluate_loaded(loaded: "Loaded[Evaluation]", tags: Mapping[str, str] | None = None) -> Path | None:
    """Run an evaluation and return the folder of its report, or None in all processes except the first.

    Args:
        loaded: The configuration of the evaluation.
        tags: MLflow tags of the evaluation.
    """
    from evaluation.assets import check_files
    from evaluation.evaluate import evaluate as run_evaluation

    check_files(loaded.config)
    return run_evaluation(loaded, tags)
