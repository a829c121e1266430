"""How much of an objective's variance each choice explains."""

from typing import TYPE_CHECKING

from sweeps.looking.scale import WIDE
from sweeps.looking.shown import Choice, Shown

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

LEAST = 8  # results below which shares would be chance alone
NOT_MADE = "not chosen"


def shares(shown: Shown) -> dict[str, dict[str, float]]:
    """Of every objective (by its short name) and choice, from 0 to 1: fANOVA (Hutter et al. 2014) by Optuna.

    A choice that some trials need not make counts as one with the value "not chosen" there, so that every result is
    used. Empty where there are fewer than ``LEAST`` results or nothing varies.
    """
    import optuna
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    results = shown.results
    varying = [name for name in shown.names if len({p.choices.get(name, NOT_MADE) for p in results}) > 1]
    if len(results) < LEAST or not varying:
        return {}
    space = {name: _distribution([p.choices.get(name, NOT_MADE) for p in results]) for name in varying}
    by_objective = {}
    for index, axis in enumerate(shown.axes):
        study = optuna.create_study()
        for point in results:
            params = {name: point.choices.get(name, NOT_MADE) for name in varying}
            study.add_trial(optuna.create_trial(params=params, distributions=space, value=point.at(index)))
        found = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
        by_objective[axis.short] = {name: float(found.get(name, 0.0)) for name in varying}
    return by_objective


def _distribution(values: list[Choice]) -> "BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    numbers = [float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) < len(values):
        return CategoricalDistribution(sorted(set(values), key=str))
    low, high = min(numbers), max(numbers)
    return FloatDistribution(low, high, log=low > 0 and high / low >= WIDE)
