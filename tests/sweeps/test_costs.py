"""Tests that computed quantities agree with known values and depend on width, size, and attention as expected."""

import pytest

from pocketdit.config.experiment import Experiment
from pocketdit.config.load import load
from pocketdit.training.cost import parameters_by_width
from sweeps.costs import ForwardFlops, Parameters, PredictedLatency
from tests.conftest import PRETRAIN

LARGE = (1024, 1024)


@pytest.fixture
def sparse() -> Experiment:
    return load(PRETRAIN, [], Experiment).config


def test_parameters_match_the_width(sparse: Experiment) -> None:
    assert Parameters(0.5)(sparse) * 1e6 == parameters_by_width(sparse.backbone)[0.5]
    with pytest.raises(ValueError, match="no width"):
        Parameters(0.7)(sparse)


def test_flops_increase_with_width_size_and_full_attention(sparse: Experiment) -> None:
    full_attention = [f"backbone.levels.{i}.attention={{kind: full, kv_heads: 2}}" for i in (0, 2)]
    dense = load(PRETRAIN, full_attention, Experiment).config
    assert ForwardFlops(0.5)(sparse) < ForwardFlops()(sparse) / 2
    assert ForwardFlops(size=LARGE)(dense) > ForwardFlops(size=LARGE)(sparse) > 100 * ForwardFlops()(sparse)


def test_latency_increases_with_width_and_size(sparse: Experiment) -> None:
    assert PredictedLatency(size=LARGE)(sparse) > PredictedLatency()(sparse) > 0
    assert PredictedLatency(width=0.5, size=LARGE)(sparse) < PredictedLatency(size=LARGE)(sparse)
