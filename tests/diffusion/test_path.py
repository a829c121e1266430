"""Tests for the rectified-flow identities and the distribution of training times."""

import math

import pytest
import torch

from pocketdit.diffusion.path import data_from_velocity, draw_times, interpolate, shift_time, velocity


def test_velocity_leads_to_data_and_to_noise() -> None:
    data, noise, time = torch.randn(5, 4, 6, 8), torch.randn(5, 4, 6, 8), torch.rand(5)
    x_t, v = interpolate(data, noise, time), velocity(data, noise)
    torch.testing.assert_close(data_from_velocity(x_t, time, v), data)
    torch.testing.assert_close(x_t + (1 - time)[:, None, None, None] * v, noise)


def test_path_starts_at_data_and_ends_at_noise() -> None:
    data, noise = torch.randn(2, 1, 2, 2), torch.randn(2, 1, 2, 2)
    assert torch.equal(interpolate(data, noise, torch.zeros(2)), data)
    assert torch.equal(interpolate(data, noise, torch.ones(2)), noise)


def test_shift_preserves_the_endpoints_and_is_invertible() -> None:
    time = torch.linspace(0, 1, 11, dtype=torch.float64)
    shifted = shift_time(time, 3.0)
    assert shifted[0] == 0
    assert shifted[-1] == 1
    assert (shifted[1:-1] > time[1:-1]).all()
    torch.testing.assert_close(shift_time(shifted, 1 / 3), time)
    assert shift_time(torch.tensor(0.25), 3.0).item() == pytest.approx(0.5)


@pytest.mark.parametrize("spread", [1.0, 1.6])
def test_times_follow_the_shifted_logit_normal(spread: float) -> None:
    """logit(t') = logit(t) + log(shift), so the mean moves by log(shift) and the spread does not change."""
    times = draw_times(200_000, 3.0, spread, torch.Generator().manual_seed(0))
    logits = torch.logit(times.double())
    assert logits.mean().item() == pytest.approx(math.log(3.0), abs=0.01)
    assert logits.std().item() == pytest.approx(spread, abs=0.01)
    assert times.min() > 0
    assert times.max() < 1


def test_each_time_is_uniform_over_its_interval_of_the_distribution() -> None:
    """If four times are drawn, the i-th is uniform over the i-th quarter of the distribution."""
    generator = torch.Generator().manual_seed(0)
    times = torch.stack([draw_times(4, 1.0, 1.0, generator) for _ in range(20_000)]).double()
    quantiles = torch.special.ndtr(torch.logit(times))
    quarters = torch.arange(4) / 4
    assert bool(((quantiles >= quarters - 1e-5) & (quantiles <= quarters + 0.25 + 1e-5)).all())
    torch.testing.assert_close((quantiles - quarters).mean(0), torch.full((4,), 0.125).double(), atol=2e-3, rtol=0)
    torch.testing.assert_close(
        (quantiles - quarters).std(0), torch.full((4,), 0.25 / 12**0.5).double(), atol=2e-3, rtol=0
    )
