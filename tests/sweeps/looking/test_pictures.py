"""Every trial is where its values say, in all pictures, and nothing is drawn that is not known."""

import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from sweeps.looking import interactive, pictures
from sweeps.looking.scale import Scale, scale_of
from sweeps.looking.shown import Shown, Views, plain_names, show

SHARES = {"validation loss": {"blocks": 0.75, "radius": 0.25}, "predicted latency (ms)": {"blocks": 0.1, "radius": 0.9}}


def offsets(axes: plt.Axes, label: str) -> np.ndarray:
    [found] = [c for c in axes.collections if str(c.get_label()).startswith(label)]
    return np.asarray(found.get_offsets())


def test_pareto_picture_holds_every_trial_in_its_place(shown: Shown) -> None:
    figure = pictures.pareto(shown)
    [axes] = figure.axes
    np.testing.assert_allclose(offsets(axes, "front"), [[9.0, 0.50], [7.0, 0.52], [4.0, 0.58]])
    np.testing.assert_allclose(offsets(axes, "result"), [[8.0, 0.60]])
    np.testing.assert_allclose(offsets(axes, "baseline"), [[8.0, 0.60]])
    np.testing.assert_allclose(offsets(axes, "refused (1)"), [[12.0, 0.49]])
    np.testing.assert_allclose(offsets(axes, "refused, untrained"), [[14.0, 0.0]])
    assert axes.get_xlabel() == "predicted latency (ms), lower is better"
    assert axes.get_ylabel() == "validation loss, lower is better"
    written = "\n".join(text.get_text() for text in axes.texts)
    assert "trial 1: 0.52 ± 0.004 validation loss, 7 ms\n      attention assa, blocks 4, radius 1" in written
    assert "trial 3" not in written


def test_no_step_of_the_front_dominates_a_point_of_it(shown: Shown) -> None:
    """The line through the front must claim nothing that no trial reached."""
    figure = pictures.pareto(shown)
    [line] = [line for line in figure.axes[0].lines if line.get_drawstyle().startswith("steps")]
    assert line.get_drawstyle() == "steps-post"  # left of a point, only what the next cheaper one reached
    assert list(line.get_xdata()) == sorted(line.get_xdata())


def test_single_objective_shows_the_best_so_far(single: Shown) -> None:
    [axes] = pictures.pareto(single).axes
    np.testing.assert_allclose(offsets(axes, "best"), [[0, 0.50]])
    np.testing.assert_allclose(offsets(axes, "baseline"), [[3, 0.60]])
    assert axes.get_xlabel() == "trial"
    assert "refused" in "".join(str(c.get_label()) for c in axes.collections)


def test_slices_have_a_panel_for_every_objective_and_choice(shown: Shown) -> None:
    axes = pictures.slices(shown).axes
    assert len(axes) == 2 * 4
    by_name = {axis.get_xlabel(): axis for axis in axes if axis.get_xlabel()}
    assert [tick.get_text() for tick in by_name["blocks"].get_xticklabels()] == ["1", "2", "4", "8"]
    assert by_name["learning rate"].get_xscale() == "log"


def test_importance_bars_have_their_lengths() -> None:
    shown = Shown("x", (), ())
    [axes] = pictures.importance(shown, SHARES).axes
    assert sorted(round(bar.get_width(), 3) for bar in axes.patches) == [0.1, 0.25, 0.75, 0.9]


@pytest.mark.parametrize("draw", [pictures.pareto, pictures.slices, pictures.parallel])
@pytest.mark.parametrize("study", ["shown", "single"])
def test_pictures_are_not_empty(draw: object, study: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    path = pictures.save(draw(request.getfixturevalue(study)), tmp_path / "p.png")  # type: ignore[operator]
    pixels = np.asarray(Image.open(path).convert("L"))
    assert min(pixels.shape) > 300 and (pixels < 250).mean() > 0.01
    assert [p.name for p in tmp_path.iterdir()] == ["p.png"]


@pytest.mark.parametrize("study", ["shown", "single"])
def test_the_page_needs_no_network_and_holds_every_trial(study: str, request: pytest.FixtureRequest) -> None:
    shown: Shown = request.getfixturevalue(study)
    page = interactive.page(Views(shown, shown), SHARES)
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=", page)
    assert len(page) > 3_000_000  # plotly's program is in it, once
    assert page.count("plotly.js v") == 1
    for point in shown.points:
        assert (point.values[0] is None) or f"trial {point.number}" in page
    assert page.count("<tr>") == 1 + len(shown.front)


def test_a_page_shows_text_of_the_study_as_text(shown: Shown) -> None:
    evil = Shown("<script>alert(1)</script>", shown.axes, shown.points)
    assert "<script>alert" not in interactive.page(Views(evil, evil), {})


def test_pareto_figure_has_the_same_trials(shown: Shown) -> None:
    figure = interactive.pareto(shown)
    by_name = {trace.name: trace for trace in figure.data if trace.name}
    assert list(zip(by_name["front"].x, by_name["front"].y, strict=True)) == [(9.0, 0.50), (7.0, 0.52), (4.0, 0.58)]
    assert list(by_name["refused, untrained"].x) == [14.0]
    assert list(by_name["baseline"].x) == [8.0] and "a baseline" in by_name["baseline"].text[0]
    assert [a.text for a in figure.layout.annotations] == ["1", "2", "3"]
    assert "refused: latency at most 10 ms" in by_name["refused"].text[0]


def test_parallel_lines_stay_between_the_ends(shown: Shown) -> None:
    [lines] = interactive.parallel(shown).data
    assert [d.label.replace("<br>", " ") for d in lines.dimensions] == [*shown.names, *(a.short for a in shown.axes)]
    for dimension in lines.dimensions:
        assert len(dimension.values) == len(shown.points)
        assert dimension.range[0] <= min(dimension.values) and max(dimension.values) <= 1


def test_scales_by_what_the_values_are(shown: Shown) -> None:
    assert scale_of(shown, "blocks").values == (1, 2, 4, 8)
    assert scale_of(shown, "attention").labels == ["assa", "full"]
    rate = scale_of(shown, "learning rate")
    assert rate.logarithmic and rate.height(1e-3) == pytest.approx(0.5)
    assert Scale.of_numbers([3.0, None, 3.0]).height(3.0) == 0.5


def test_names_are_as_short_as_they_differ() -> None:
    keys = ["backbone.levels.0.attention.blocks", "backbone.levels.2.attention.blocks", "stage.init_args.drop_text"]
    assert list(plain_names(keys).values()) == ["0 attention blocks", "2 attention blocks", "drop text"]


def test_values_are_shown_short() -> None:
    assert [show(v) for v in (True, 0.30000000000000004, 12, None, "a")] == ["yes", "0.3", "12", "None", "a"]
