"""Computes the importance of each parameter: the share of an objective's variance that the parameter explains."""

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from sweeps.dimensions import Scalar
from sweeps.plots.scale import LOG_RATIO
from sweeps.plots.view import StudyView

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution
    from optuna.importance import FanovaImportanceEvaluator
    from optuna.trial import FrozenTrial

MIN_RESULTS = 8  # with fewer results, importances are mostly noise
NOT_CHOSEN = "not chosen"
_ROUNDING = 1e-12


def importances(view: StudyView) -> dict[str, dict[str, float]]:
    """Compute the importance of each parameter for each objective with fANOVA (Hutter et al. 2014).

    Returns:
        For the short label of each varying objective, a mapping from each parameter to its importance, from 0 to 1.
        Empty if there are too few results (see ``importance_study``).
    """
    from optuna.importance import get_param_importances

    study = importance_study(view)
    if study is None:
        return {}
    names = list(study.trials[0].params)
    by_objective = {}
    for index, axis in enumerate(without_constant_objectives(view).axes):
        by_name = get_param_importances(study, evaluator=evaluator(), target=partial(objective_value, index=index))
        by_objective[axis.short_label] = {name: float(by_name.get(name, 0.0)) for name in names}
    return by_objective


def without_constant_objectives(view: StudyView) -> StudyView:
    """Remove objectives that are the same in all results up to rounding, because they have no variance to explain."""
    varying = [i for i in range(len(view.axes)) if _varies([point.value(i) for point in view.results])]
    points = tuple(replace(p, values=tuple(p.values[i] for i in varying), spread=()) for p in view.results)
    return StudyView(view.title, tuple(view.axes[i] for i in varying), points)


def _varies(values: list[float]) -> bool:
    return bool(values) and max(values) - min(values) > _ROUNDING * max(map(abs, values))


def evaluator() -> "FanovaImportanceEvaluator":
    """Return the fANOVA evaluator with a fixed seed."""
    from optuna.importance import FanovaImportanceEvaluator

    return FanovaImportanceEvaluator(seed=0)


def objective_value(trial: "FrozenTrial", index: int) -> float:
    """Return the value of one objective of a complete trial."""
    return float(trial.values[index])


def importance_study(view: StudyView) -> "optuna.Study | None":
    """Copy the varying objectives into an in-memory study in which every trial has every parameter.

    Optuna's fANOVA ignores parameters that some trials do not have, so missing parameters are set to "not chosen".

    Returns:
        The study, or None if there are fewer than ``MIN_RESULTS`` results, or if no parameter or no objective varies.
    """
    import optuna

    view = without_constant_objectives(view)
    results = view.results
    columns = {name: [p.params.get(name, NOT_CHOSEN) for p in results] for name in view.param_names}
    varying = {name: column for name, column in columns.items() if len(set(column)) > 1}
    if len(results) < MIN_RESULTS or not varying or not view.axes:
        return None
    distributions = {name: _distribution(column) for name, column in varying.items()}
    study = optuna.create_study(directions=["minimize" if axis.minimize else "maximize" for axis in view.axes])
    study.set_metric_names([axis.short_label for axis in view.axes])
    for index, point in enumerate(results):
        params = {name: column[index] for name, column in varying.items()}
        values = [point.value(objective) for objective in range(len(view.axes))]
        study.add_trial(optuna.create_trial(params=params, distributions=distributions, values=values))
    return study


def _distribution(values: list[Scalar]) -> "BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    numbers = [float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) < len(values):
        return CategoricalDistribution(sorted(set(values), key=str))
    low, high = min(numbers), max(numbers)
    return FloatDistribution(low, high, log=low > 0 and high / low >= LOG_RATIO)
