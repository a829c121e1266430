"""Names and values of the metrics that an experiment logs during validation."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from pocketdit.config.errors import nearest
from pocketdit.config.experiment import Experiment
from pocketdit.config.importing import import_class

Curves = Mapping[str, Sequence[tuple[int, float]]]
"""For each metric, (step, value) pairs. Steps are counted from 0."""


def logged_metrics(experiment: Experiment) -> list[str]:
    """Return the names of the metrics that the experiment's stage logs. ``*`` marks a part known only at run time."""
    return list(import_class(experiment.stage.class_path).logged_metrics(experiment))


def unknown_metric_problem(metric: str, experiment: Experiment) -> str | None:
    """Explain why the experiment does not log ``metric``. Returns None if it does."""
    names = logged_metrics(experiment)
    if any(fnmatchcase(metric, name) or fnmatchcase(name, metric) for name in names):
        return None
    stage = experiment.stage.class_path.rpartition(".")[2]
    if not names:
        return f"{stage} does not log metrics during validation; use an objective of kind scored"
    near = nearest(metric, names)
    exact = [name for name in names if "*" not in name] or names
    hint = f"did you mean {near!r}?" if near else f"it logs {', '.join(exact)}"
    return f"{stage} does not log {metric!r}; {hint}"


def value_after(metric: str, curves: Curves, steps: int) -> float:
    """Return the value of ``metric`` after ``steps`` optimizer steps. See ``value_of`` for names with ``*``.

    Raises:
        KeyError: The metric was not logged at that step.
    """
    # Curves count steps from 0.
    return value_of(metric, {name: value for name, curve in curves.items() for at, value in curve if at == steps - 1})


def value_of(metric: str, values: Mapping[str, float]) -> float:
    """Return the value of ``metric``. If the name contains ``*``, return the mean of all matching metrics.

    Raises:
        KeyError: No metric matches.
    """
    matches = [value for name, value in values.items() if fnmatchcase(name, metric)]
    if not matches:
        raise KeyError(metric)
    return sum(matches) / len(matches)
