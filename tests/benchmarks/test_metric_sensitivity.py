"""Tests that the embedded metrics get worse as images are corrupted more strongly."""

from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image

from benchmarks import metric_sensitivity
from benchmarks.metric_sensitivity import CORRUPTIONS, METRICS, Curves

pytestmark = pytest.mark.slow  # scoring 60 scenes at all strengths takes half a minute
GENEVAL, DPG, CLIP, FD = METRICS
# Metrics that must get worse with every increase in strength. GenEval and DPG-Bench are not among them for noise and
# blur, because their rules recognize colors and shapes despite mild noise and blur.
RESPONDING = {
    "noise": (FD,),
    "blur": (FD,),
    "swapped captions": (GENEVAL, DPG, CLIP),
    "missing objects": (GENEVAL, DPG, CLIP, FD),
}


@pytest.fixture(scope="module")
def curves() -> Curves:
    return metric_sensitivity.measure(60)


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_responding_metrics_worsen_with_every_increase(corruption: str, curves: Curves) -> None:
    for metric in RESPONDING[corruption]:
        values = curves[corruption][metric]
        sign = 1 if metric == FD else -1
        assert all(sign * (b - a) > 0 for a, b in pairwise(values)), (metric, values)


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_every_metric_but_the_control_is_far_worse_at_the_greatest_strength(corruption: str, curves: Curves) -> None:
    for metric in METRICS:
        first, *_, last = curves[corruption][metric]
        if (corruption, metric) == ("swapped captions", FD):
            assert last == pytest.approx(first, rel=1e-6)
        elif metric == FD:
            assert last > 2 * first
        else:
            assert last < 0.8 * first, (metric, curves[corruption][metric])


def test_uncorrupted_scenes_score_high(curves: Curves) -> None:
    assert curves["noise"][GENEVAL][0] >= 0.98
    assert curves["noise"][DPG][0] >= 98


def test_plot_and_table_are_written(curves: Curves, tmp_path: Path) -> None:
    metric_sensitivity.plot(curves, 60, tmp_path / "metrics.png")
    with Image.open(tmp_path / "metrics.png") as image:
        assert image.size == (1200, 600)
    assert "swapped captions" in metric_sensitivity.format_table(curves)
