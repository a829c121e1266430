"""Tests for formatted names and values, and for positions on an axis."""

import pytest

from sweeps.plots.scale import Scale, param_scale
from sweeps.plots.view import StudyView, format_value, short_names


def test_scale_depends_on_the_values(view: StudyView) -> None:
    assert param_scale(view, "blocks").categories == (1, 2, 4, 8)
    assert param_scale(view, "attention").labels == ["assa", "full"]
    rate = param_scale(view, "learning rate")
    assert rate.logarithmic
    assert rate.height(1e-3) == pytest.approx(0.5)
    assert Scale.of_numbers([3.0, None, 3.0]).height(3.0) == 0.5


def test_names_are_as_short_as_possible() -> None:
    keys = ["backbone.levels.0.attention.blocks", "backbone.levels.2.attention.blocks", "stage.init_args.drop_text"]
    assert list(short_names(keys).values()) == ["0 attention blocks", "2 attention blocks", "drop text"]


def test_values_are_formatted_briefly() -> None:
    assert [format_value(v) for v in (True, 0.30000000000000004, 12, None, "a")] == ["yes", "0.3", "12", "None", "a"]
