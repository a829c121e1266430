"""The metrics that an experiment logs at validation, and their values."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from pocketdit.config.errors import nearest
from pocketdit.config.experiment import Experiment
from pocketdit.config.importing import import_class

Curves = Mapping[str, Sequence[tuple[int, float]]]
"""For each metric, pairs of a step (counted from 0) and a value."""


def logged_metrics(experiment: Experiment) -> list[str]:
    """Return the metrics that the experiment's stage logs. ``*`` matches a part that is only known at run time."""
    return list(import_class(experiment.stage.class_path).logged_metrics(experiment))


def unknown_metric_problem(metric: str, experiment: Experiment) -> str | None:
    """Describe why the experiment does not log ``metric``; None if it does."""
    names = logged_metrics(experiment)
    if any(fnmatchcase(metric, name) or fnmatchcase(name, metric) for name in names):
        return None
    stage = experiment.stage.class_path.rpartition(".")[2]
    if not names:
        return f"{stage} does not log metrics at validation; use an objective of kind scored"
    near = nearest(metric, names)
    exact = [name for name in names if "*" not in name] or names
    hint = f"did you mean {near!r}?" if near else f"it logs {', '.join(exact)}"
    return f"{stage} does not log {metric!r}; {hint}"


def value_after(metric: str, curves: Curves, steps: int) -> float:
    """Return a metric's value after ``steps`` optimizer steps, as ``value_of`` does.

    Raises:
        KeyError: The metric was not logged at that step.
    """
    # Journals count steps from 0.
    return value_of(metric, {name: value for name, curve in curves.items() for at, value in curve if at == steps - 1})


def value_of(metric: str, values: Mapping[str, float]) -> float:
    """Return the value of ``metric``, or the mean of all metrics that match a name with ``*``.

    Raises:
        KeyError: No metric matches.
    """
    matches = [value for name, value in values.items() if fnmatchcase(name, metric)]
    if not matches:
        raise KeyError(metric)
    return sum(matches) / len(matches)
