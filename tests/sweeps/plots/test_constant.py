"""Tests for plots of studies in which an objective has the same value in every trial."""

from dataclasses import replace
from pathlib import Path

import pytest

from sweeps.dimensions import Scalar
from sweeps.plots import interactive, static
from sweeps.plots.importance import importances
from sweeps.plots.page import render_page
from sweeps.plots.view import ObjectiveAxis, StudyView, StudyViews, TrialPoint


def constant_view(*values: float | None) -> StudyView:
    """Return 12 trials. Each objective has the given value in every trial, or varies if the value is None."""
    axes = tuple(ObjectiveAxis(f"objective {i}", "ms") for i in range(len(values)))
    points = tuple(
        TrialPoint(
            i, tuple(float(i) if v is None else v for v in values), {"blocks": i, "kind": "ab"[i % 2]}, rank=i < 1
        )
        for i in range(12)
    )
    return StudyView("constant", axes, points)


@pytest.mark.parametrize("values", [(0.0,), (0.0, 0.0), (None, 0.0), (5.0, None)])
def test_constant_objectives_can_be_plotted(values: tuple[float | None, ...], tmp_path: Path) -> None:
    view = constant_view(*values)
    varying = [axis.short_label for axis, value in zip(view.axes, values, strict=True) if value is None]
    by_objective = importances(view)
    assert list(by_objective) == varying
    assert all(by_name["blocks"] > 0.5 for by_name in by_objective.values())
    figure = interactive.importance_figure(view)
    assert (figure is None) == (not varying)
    figures = [static.front_figure(view), static.slice_figure(view), static.parallel_figure(view)]
    for number, static_figure in enumerate(figures):
        assert static.save(static_figure, tmp_path / f"{number}.png").stat().st_size > 1000
    assert "constant" in render_page(StudyViews(view, view))


def test_rounding_errors_have_no_importance() -> None:
    """Differences in the last digit must not be attributed to parameters."""
    view = constant_view(None)
    points = tuple(replace(p, values=(0.3 if i % 2 else 0.1 + 0.2,)) for i, p in enumerate(view.points))
    assert importances(StudyView(view.title, view.axes, points)) == {}


def test_constant_parameter_can_be_plotted() -> None:
    view = constant_view(None)
    view = StudyView(view.title, view.axes, tuple(replace(point, params={"blocks": 4}) for point in view.points))
    assert importances(view) == {}
    assert render_page(StudyViews(view, view))


@pytest.mark.parametrize("columns", [1, 2, 4])
def test_legend_of_the_slices_does_not_overlap_the_title(columns: int) -> None:
    params: dict[str, Scalar] = {f"parameter {i}": float(i) for i in range(columns)}
    points = tuple(TrialPoint(i, (float(i),), params, rank=int(i == 0)) for i in range(4))
    figure = static.slice_figure(StudyView("a study with a long name", (ObjectiveAxis("validation loss"),), points))
    figure.canvas.draw()
    title, legend = figure._suptitle, figure.legends[0]  # type: ignore[attr-defined]  # private
    assert not title.get_window_extent().overlaps(legend.get_window_extent())
    for axis in figure.axes:
        assert not axis.get_window_extent().overlaps(legend.get_window_extent())
