"""Tests for the importance of the parameters of known functions."""

import itertools

from sweeps.plots.importance import importances
from sweeps.plots.interactive import importance_figure
from sweeps.plots.view import ObjectiveAxis, StudyView, TrialPoint


def build_view(points: list[TrialPoint]) -> StudyView:
    return StudyView("s", (ObjectiveAxis("a"), ObjectiveAxis("b", "ms")), tuple(points))


def grid() -> list[TrialPoint]:
    """Return trials in which objective a equals ``blocks`` and objective b equals ``rate``."""
    product = itertools.product([1, 2, 4, 8], [0.1, 0.2, 0.3], ["x", "y"])
    return [
        TrialPoint(i, (float(blocks), rate), {"blocks": blocks, "rate": rate, "idle": idle, "same": 1})
        for i, (blocks, rate, idle) in enumerate(product)
    ]


def test_parameter_that_determines_an_objective_has_nearly_all_importance() -> None:
    by_objective = importances(build_view(grid()))
    assert by_objective["a"]["blocks"] > 0.9
    assert by_objective["b (ms)"]["rate"] > 0.9
    assert max(by_objective["a"]["idle"], by_objective["b (ms)"]["idle"]) < 0.05
    assert "same" not in by_objective["a"]


def test_parameter_that_some_trials_lack_is_included() -> None:
    """Optuna's fANOVA skips parameters that some trials do not have."""
    points = [TrialPoint(i, (5.0, 5.0), {"kind": "full"}) for i in range(8)]
    points += [TrialPoint(8 + i, (float(i % 4), 1.0), {"kind": "assa", "radius": i % 4}) for i in range(16)]
    assert importances(build_view(points))["a"]["radius"] > 0.3


def test_interactive_plot_shows_the_same_importances() -> None:
    view = build_view(grid())
    figure = importance_figure(view)
    assert figure is not None
    plotted = {bar.name: dict(zip(bar.y, bar.x, strict=True)) for bar in figure.data}
    assert plotted == importances(view)


def test_importances_are_empty_if_there_are_too_few_results() -> None:
    few = [TrialPoint(i, (float(i), 1.0), {"blocks": i}) for i in range(7)]
    infeasible = [TrialPoint(9 + i, (float(i), 1.0), {"blocks": i}, violations=("x",)) for i in range(7)]
    assert importances(build_view(few + infeasible)) == {}
    assert importance_figure(build_view(few + infeasible)) is None
