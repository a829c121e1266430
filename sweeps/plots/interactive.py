"""Interactive plots of a study with ``optuna.visualization``.

Optuna plots only trials that have a value for every objective. This module adds baselines and infeasible trials to the
plots of the front. Infeasible trials are not trained, so only computed objectives are known. Plotly interprets HTML in
hover text and labels, and Optuna does not escape names and values, so this module escapes all text first.
"""

import html
import itertools
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import optuna
from optuna import visualization
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from sweeps.plots.importance import evaluator, importance_study, objective_value
from sweeps.plots.scale import Scale, param_scale
from sweeps.plots.view import StudyView, TrialPoint, format_value

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

DOMINATED, FRONT, BASELINE, INFEASIBLE = "#9e9e9e", "#1f77b4", "black", "#d62728"


def front_figures(view: StudyView) -> "list[Figure]":
    """Plot each pair of objectives against each other, or a single objective against the trial number."""
    escaped = escape_view(view)
    study = results_study(escaped)
    if len(view.axes) == 1:
        figure = visualization.plot_optimization_history(study, target_name=escaped.axes[0].label)
        _add_baselines(figure, escaped, None, 0)
        return [_style(figure, 520)]
    figures = []
    for y, x in itertools.combinations(range(len(view.axes)), 2):
        figure = visualization.plot_pareto_front(
            study,
            targets=partial(_objectives, indices=(x, y)),
            target_names=[escaped.axes[x].label, escaped.axes[y].label],
        )
        dominated, front = figure.data
        # By default, Optuna colors trials by number, and the earliest trials are nearly white.
        dominated.update(name="dominated", marker={"color": DOMINATED, "size": 7}, showlegend=True, overwrite=True)
        front.update(name="front", marker={"color": FRONT, "size": 10}, showlegend=True, overwrite=True)
        _add_baselines(figure, escaped, x, y)
        _add_untrained(figure, escaped, x, y)
        _add_ranks(figure, escaped, x, y)
        figures.append(_style(figure, 520))
    return figures


def importance_figure(view: StudyView) -> "Figure | None":
    """Plot the importance of each parameter, or return None if there are too few results."""
    study = importance_study(escape_view(view))
    if study is None:
        return None
    objectives = study.metric_names or []
    # With a single objective, Optuna ignores the metric's name.
    figure = visualization.plot_param_importances(study, evaluator=evaluator(), target_name=objectives[0])
    figure.update_xaxes(title="share of the objective's variance that the parameter explains", range=[0, 1])
    figure.update_yaxes(title="", ticklabelstandoff=6)
    return _style(figure, 160 + 30 * len(study.trials[0].params) * len(view.axes))


def slice_figures(view: StudyView) -> "list[Figure]":
    """Plot each objective against each parameter."""
    escaped = escape_view(view)
    study = results_study(escaped)
    figures = [
        visualization.plot_slice(study, target=partial(objective_value, index=index), target_name=axis.short_label)
        for index, axis in enumerate(escaped.axes)
    ]
    return [_style(figure, 360) for figure in figures]


def parallel_figure(view: StudyView) -> "Figure":
    """Plot each trial as a line through its objectives and parameters."""
    escaped = escape_view(view)
    study = results_study(escaped)
    return _style(visualization.plot_parallel_coordinate(study, target_name=escaped.axes[0].short_label), 480)


def results_study(view: StudyView) -> optuna.Study:
    """Copy the results into an in-memory study with the same trial numbers."""
    study = optuna.create_study(directions=["minimize" if axis.minimize else "maximize" for axis in view.axes])
    study.set_metric_names([axis.short_label for axis in view.axes])
    scales = {name: param_scale(view, name) for name in view.param_names}
    results = {point.number: point for point in view.results}
    for number in range(max(results, default=-1) + 1):
        if number in results:
            study.add_trial(_optuna_trial(results[number], scales))
        else:  # Optuna numbers trials consecutively
            study.add_trial(optuna.create_trial(state=TrialState.FAIL))
    return study


def _objectives(trial: FrozenTrial, indices: Sequence[int]) -> list[float]:
    return [objective_value(trial, index) for index in indices]


def _optuna_trial(point: TrialPoint, scales: dict[str, Scale]) -> FrozenTrial:
    notes = {"spread": list(point.spread), "baseline": point.baseline, "rank on the front": point.rank}
    return optuna.create_trial(
        params=point.params,
        distributions={name: _distribution(scales[name]) for name in point.params},
        values=[point.value(objective) for objective in range(len(point.values))],
        user_attrs={name: value for name, value in notes.items() if value},
    )


def _distribution(scale: Scale) -> BaseDistribution:
    if scale.categories:
        return CategoricalDistribution(scale.categories)
    return FloatDistribution(scale.low, scale.high, log=scale.logarithmic)


def escape_view(view: StudyView) -> StudyView:
    """Escape all text in a view for plotly, which interprets a subset of HTML."""
    return view.with_text(_escape)


def _escape(text: str) -> str:
    return html.escape(text, quote=False)  # plotly does not know the HTML entities for quotes


def _add_baselines(figure: "Figure", view: StudyView, x: int | None, y: int) -> None:
    """Mark the baselines in a plot of objectives ``x`` and ``y``. If ``x`` is None, the x-axis is the trial number."""
    points = [point for point in view.results if point.baseline]
    if points:
        xs = [point.number if x is None else point.values[x] for point in points]
        ys = [point.values[y] for point in points]
        _scatter(figure, view, points, "baseline", xs, ys, color=BASELINE, size=14, symbol="diamond-open")


def _add_untrained(figure: "Figure", view: StudyView, x: int, y: int) -> None:
    """Mark infeasible trials with only one known objective as ticks along that objective's axis."""
    for known, other, symbol in ((x, y, "line-ns-open"), (y, x, "line-ew-open")):
        points = [p for p in view.infeasible if p.values[known] is not None and p.values[other] is None]
        others = [p.value(other) for p in view.points if p.values[other] is not None]
        if points and others:
            edge = min(others) - 0.04 * (max(others) - min(others))
            coordinates = ([p.values[known] for p in points], [edge] * len(points))
            xs, ys = coordinates if known == x else coordinates[::-1]
            _scatter(figure, view, points, "infeasible, not trained", xs, ys, color=INFEASIBLE, size=12, symbol=symbol)


def _add_ranks(figure: "Figure", view: StudyView, x: int, y: int) -> None:
    """Number the points on the front as in the table below the plot."""
    for point in view.front:
        side = 1 if point.rank % 2 else -1  # label neighboring points on opposite sides
        figure.add_annotation(
            x=point.values[x],
            y=point.values[y],
            text=str(point.rank),
            showarrow=False,
            xshift=11 * side,
            yshift=9 * side,
        )


def _scatter(
    figure: "Figure", view: StudyView, points: Sequence[TrialPoint], name: str, x: Sequence[Any], y: Sequence[Any],
    **marker: Any,
) -> None:  # fmt: skip
    figure.add_scatter(
        x=x,
        y=y,
        mode="markers",
        marker=marker,
        name=name,
        showlegend=True,
        text=[_hover_text(view, point) for point in points],
        hovertemplate=f"%{{text}}<extra>{name}</extra>",
    )


def _hover_text(view: StudyView, point: TrialPoint) -> str:
    lines = [f"trial {point.number}"]
    lines += [f"{axis.short_label}: {text}" for axis, text in zip(view.axes, view.value_labels(point), strict=True)]
    lines += [f"{name}: {format_value(value)}" for name, value in point.params.items()]
    lines += [f"infeasible: {text}" for text in point.violations]
    return "<br>".join(lines)


def _style(figure: "Figure", height: int) -> "Figure":
    """Apply the page's layout, and remove the title and width that Optuna sets."""
    figure.update_layout(
        template="plotly_white",
        title=None,
        height=height,
        width=None,
        margin={"l": 70, "r": 70, "t": 50, "b": 70},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    )
    return figure
