"""Tests for comparing the outputs of an exported model with those of PyTorch."""

import math

import pytest
import torch

from pocketdit.export.common.comparison import NO_LIMIT, Comparison, Tolerance, compare


def test_error_and_snr_of_a_small_difference() -> None:
    expected, actual = torch.tensor([1.0, -2.0, 2.0]), torch.tensor([1.0, -2.0, 2.3])
    comparison = compare("y", actual, expected)
    assert comparison.max_error == pytest.approx(0.15)
    assert comparison.snr == pytest.approx(20.0)  # 9 / 0.09 is 20 dB


def test_equal_and_non_finite_outputs() -> None:
    expected = torch.tensor([1.0, -2.0])
    assert compare("y", expected, expected) == Comparison("y", 0.0, math.inf)
    assert compare("y", torch.tensor([1.0, math.nan]), expected) == Comparison("y", math.inf, -math.inf)


def test_tolerance_requires_both_limits() -> None:
    comparison = Comparison("y", 0.15, 20.0)
    assert NO_LIMIT.accepts(comparison)
    assert Tolerance(0.2, 15.0).accepts(comparison)
    assert not Tolerance(max_error=0.1).accepts(comparison)
    assert not Tolerance(min_snr=25.0).accepts(comparison)
    assert not NO_LIMIT.accepts(Comparison("y", math.nan, math.nan))
    for violated in (Tolerance(min_snr=25.0), Tolerance(0.2, 25.0)):
        assert violated.describe_violation(comparison) == "y: SNR is 20.0 dB, but at least 25 dB is required"
