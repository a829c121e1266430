"""Tests for interactive plots, the marks added to Optuna's plots, and the page that contains them."""

import re

import pytest

from sweeps.plots import interactive
from sweeps.plots.page import render_page
from sweeps.plots.view import ObjectiveAxis, StudyView, StudyViews, TrialPoint


def test_front_shows_every_trial(view: StudyView) -> None:
    [figure] = interactive.front_figures(view)
    dominated, front = figure.data[:2]  # plotted by Optuna
    assert list(zip(front.x, front.y, strict=True)) == [(9.0, 0.50), (7.0, 0.52), (4.0, 0.58)]
    assert list(zip(dominated.x, dominated.y, strict=True)) == [(8.0, 0.60)]
    by_name = {trace.name: trace for trace in figure.data if trace.name}
    assert list(by_name["infeasible, not trained"].x) == [14.0]
    assert "infeasible: latency at most 10 ms" in by_name["infeasible, not trained"].text[0]
    assert list(by_name["baseline"].x) == [8.0]
    assert "trial 3" in by_name["baseline"].text[0]
    assert [annotation.text for annotation in figure.layout.annotations] == ["1", "2", "3"]
    assert figure.layout.xaxis.title.text == "predicted latency (ms), lower is better"


def test_hover_text_contains_the_trial_number_and_the_spread(view: StudyView) -> None:
    [figure] = interactive.front_figures(view)
    text = figure.data[1].text[1]
    assert '"number": 1' in text
    assert '"blocks": 4' in text
    assert "0.004" in text


def test_each_pair_of_objectives_has_a_front(view: StudyView) -> None:
    points = tuple(TrialPoint(p.number, (*p.values, float(p.number), 1.0), p.params, rank=p.rank) for p in view.results)
    four = StudyView("four", (*view.axes, ObjectiveAxis("size"), ObjectiveAxis("memory")), points)
    assert len(interactive.front_figures(four)) == 6


def test_single_objective_shows_the_best_value_so_far(single: StudyView) -> None:
    [figure] = interactive.front_figures(single)
    by_name = {trace.name: trace for trace in figure.data if trace.name}
    assert list(by_name["Best Value"].y) == [0.50] * 4
    assert list(by_name["baseline"].x) == [3]


def test_slices_have_a_panel_per_parameter(view: StudyView) -> None:
    loss, latency = interactive.slice_figures(view)
    assert len(loss.data) == len(latency.data) == 4
    titles = [axis.title.text for axis in loss.select_xaxes()]
    assert titles == sorted(view.param_names)


def test_parallel_plot_has_a_line_per_result(view: StudyView) -> None:
    lines = [trace for trace in interactive.parallel_figure(view).data if trace.mode == "lines"]
    assert len(lines) == len(view.results)
    labels = [label for label, _ in lines[0].customdata]
    assert labels == [*(axis.short_label for axis in view.axes), *sorted(view.param_names)]


@pytest.mark.parametrize("study", ["view", "single"])
def test_page_works_offline_and_contains_the_front(study: str, request: pytest.FixtureRequest) -> None:
    view: StudyView = request.getfixturevalue(study)
    page = render_page(StudyViews(view, view))
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=", page)
    assert len(page) > 3_000_000  # plotly.js is included once
    assert page.count("plotly.js v") == 1
    assert page.count("<tr>") == 1 + len(view.front)
    numbers = set(re.findall(r"<td>(\d+)</td>", page))
    assert {str(point.number) for point in view.front} <= numbers


def test_page_escapes_text_from_the_study(view: StudyView) -> None:
    evil = "<b onclick=alert(1)>&"
    points = tuple(
        TrialPoint(p.number, p.values, {evil: evil, "x": p.number}, (evil,) if p.violations else (), rank=p.rank,
                   baseline=p.baseline)
        for p in view.points
    )  # fmt: skip
    study = StudyView(evil, (ObjectiveAxis(evil, evil), view.axes[1]), points)
    page = render_page(StudyViews(study, study))
    assert evil not in page
    assert "&lt;b onclick=alert(1)&gt;&amp;" in page
    for figure in (*interactive.front_figures(study), interactive.parallel_figure(study)):
        assert "<b onclick" not in str(figure.to_dict())
