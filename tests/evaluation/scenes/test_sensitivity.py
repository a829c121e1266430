"""The embedded metrics move the right way when pictures are spoilt by degrees."""

from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image

from evaluation.scenes import sensitivity
from evaluation.scenes.sensitivity import METRICS, SPOILINGS, Curves

GENEVAL, DPG, CLIP, FD = METRICS
# Which metric has to notice what at every step of strength. Rules read colours and shapes through mild noise and blur.
NOTICES = {
    "noise": (FD,),
    "blur": (FD,),
    "swapped captions": (GENEVAL, DPG, CLIP),
    "missing objects": (GENEVAL, DPG, CLIP, FD),
}


@pytest.fixture(scope="module")
def curves() -> Curves:
    return sensitivity.measure(60)


@pytest.mark.parametrize("spoiling", SPOILINGS)
def test_what_should_notice_worsens_at_every_step(spoiling: str, curves: Curves) -> None:
    for metric in NOTICES[spoiling]:
        values = curves[spoiling][metric]
        sign = 1 if metric == FD else -1
        assert all(sign * (b - a) > 0 for a, b in pairwise(values)), (metric, values)


@pytest.mark.parametrize("spoiling", SPOILINGS)
def test_at_the_greatest_strength_every_metric_is_far_worse_or_rightly_unmoved(spoiling: str, curves: Curves) -> None:
    for metric in METRICS:
        first, *_, last = curves[spoiling][metric]
        if (spoiling, metric) == ("swapped captions", FD):
            assert last == pytest.approx(first, rel=1e-6)
        elif metric == FD:
            assert last > 2 * first
        else:
            assert last < 0.8 * first, (metric, curves[spoiling][metric])


def test_scenes_as_drawn_pass(curves: Curves) -> None:
    assert curves["noise"][GENEVAL][0] >= 0.98 and curves["noise"][DPG][0] >= 98


def test_the_picture_is_drawn(curves: Curves, tmp_path: Path) -> None:
    sensitivity.plot(curves, 60, tmp_path / "metrics.png")
    with Image.open(tmp_path / "metrics.png") as picture:
        assert picture.size == (1200, 600)
    assert "swapped captions" in sensitivity.table(curves)
