"""Tests that static plots show every trial at its values and omit unknown values."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from PIL import Image

from sweeps.plots import static
from sweeps.plots.view import StudyView

IMPORTANCES = {
    "validation loss": {"blocks": 0.75, "radius": 0.25},
    "predicted latency (ms)": {"blocks": 0.1, "radius": 0.9},
}


def offsets(axes: Axes, label: str) -> np.ndarray:
    [collection] = [c for c in axes.collections if str(c.get_label()).startswith(label)]
    return np.asarray(collection.get_offsets())


def test_front_shows_every_trial(view: StudyView) -> None:
    [axes] = static.front_figure(view).axes
    np.testing.assert_allclose(offsets(axes, "front"), [[9.0, 0.50], [7.0, 0.52], [4.0, 0.58]])
    np.testing.assert_allclose(offsets(axes, "dominated"), [[8.0, 0.60]])
    np.testing.assert_allclose(offsets(axes, "baseline"), [[8.0, 0.60]])
    np.testing.assert_allclose(offsets(axes, "infeasible (1)"), [[12.0, 0.49]])
    np.testing.assert_allclose(offsets(axes, "infeasible, not trained"), [[14.0, 0.0]])
    assert axes.get_xlabel() == "predicted latency (ms), lower is better"
    assert axes.get_ylabel() == "validation loss, lower is better"
    text = "\n".join(text.get_text() for text in axes.texts)
    assert "trial 1: 0.52 ± 0.004 validation loss, 7 ms\n      attention assa, blocks 4, radius 1" in text
    assert "trial 3" not in text


def test_line_through_the_front_shows_only_attained_values(view: StudyView) -> None:
    [line] = [line for line in static.front_figure(view).axes[0].lines if line.get_drawstyle().startswith("steps")]
    assert line.get_drawstyle() == "steps-post"  # the value of the cheaper trial applies up to the next one
    assert (np.diff(np.asarray(line.get_xdata())) >= 0).all()


def test_single_objective_shows_the_best_value_so_far(single: StudyView) -> None:
    [axes] = static.front_figure(single).axes
    np.testing.assert_allclose(offsets(axes, "best ("), [[0, 0.50]])
    np.testing.assert_allclose(offsets(axes, "baseline"), [[3, 0.60]])
    assert axes.get_xlabel() == "trial"
    assert "infeasible" in "".join(str(c.get_label()) for c in axes.collections)


def test_slices_have_a_panel_per_objective_and_parameter(view: StudyView) -> None:
    axes = static.slice_figure(view).axes
    assert len(axes) == 2 * 4
    by_name = {axis.get_xlabel(): axis for axis in axes if axis.get_xlabel()}
    assert [tick.get_text() for tick in by_name["blocks"].get_xticklabels()] == ["1", "2", "4", "8"]
    assert by_name["learning rate"].get_xscale() == "log"


def test_importance_bars_have_the_right_lengths() -> None:
    [axes] = static.importance_figure(StudyView("x", (), ()), IMPORTANCES).axes
    bars = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    assert sorted(round(bar.get_width(), 3) for bar in bars) == [0.1, 0.25, 0.75, 0.9]


@pytest.mark.parametrize("plot", [static.front_figure, static.slice_figure, static.parallel_figure])
@pytest.mark.parametrize("study", ["view", "single"])
def test_plots_are_not_empty(
    plot: Callable[[StudyView], Figure], study: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    path = static.save(plot(request.getfixturevalue(study)), tmp_path / "p.png")
    pixels = np.asarray(Image.open(path).convert("L"))
    assert min(pixels.shape) > 300
    assert (pixels < 250).mean() > 0.01
    assert [p.name for p in tmp_path.iterdir()] == ["p.png"]


def test_dollar_signs_in_names_and_values_are_not_formulas(view: StudyView, tmp_path: Path) -> None:
    """Plots can be saved, and show names such as $a^$ unchanged, although this is not a valid formula."""
    odd, plain = view.with_text(lambda text: f"{text} $a^$"), view.with_text(lambda text: f"{text} Sa^S")
    for plot in (static.front_figure, static.slice_figure, static.parallel_figure):
        figure, expected = plot(odd), plot(plain)
        assert {text.replace(r"\$", "S") for text in texts(figure)} == texts(expected)
        static.save(figure, tmp_path / "plot.png")
    figure = static.importance_figure(odd, {f"{name} $a^$": {"$x_$": 0.5} for name in IMPORTANCES})
    static.save(figure, tmp_path / "importance.png")


def texts(figure: Figure) -> set[str]:
    """Return all text in a figure, one line per label, except for the numbers on logarithmic axes."""
    lines = {" ".join(text.get_text().split()) for text in figure.findobj(Text) if isinstance(text, Text)}
    return {line for line in lines if "mathdefault" not in line}
