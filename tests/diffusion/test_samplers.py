"""Tests for guidance, and for the samplers on a flow with a known solution."""

from collections.abc import Sequence
from typing import get_args

import pytest
import torch
from torch import Tensor

from pocketdit.diffusion.guidance import guided_velocity
from pocketdit.diffusion.sampler_names import SamplerName
from pocketdit.diffusion.samplers import SAMPLERS, Sampler, dpmpp_2m, euler, heun, uniform_times
from pocketdit.encoders.contract import TextTokens

SPREAD, CENTER = 0.5, 2.0


def gaussian_velocity(x: Tensor, time: Tensor) -> Tensor:
    """Compute the exact velocity E[noise - data | x_t] for data ~ N(CENTER, SPREAD^2)."""
    t = time.reshape(-1, 1, 1, 1).double()
    variance = (1 - t) ** 2 * SPREAD**2 + t**2
    deviation = x - (1 - t) * CENTER
    return t / variance * deviation - CENTER - (1 - t) * SPREAD**2 / variance * deviation


def exact_data(noise: Tensor) -> Tensor:
    """Compute the data at the end of the exact flow, which maps quantiles of the noise to quantiles of the data."""
    return CENTER + SPREAD * noise


def error(sampler: Sampler, steps: int) -> float:
    x = torch.randn(64, 1, 1, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return float((sampler(gaussian_velocity, x, uniform_times(steps)) - exact_data(x)).abs().max())


def test_samplers_are_named_after_their_functions() -> None:
    assert tuple(SAMPLERS) == get_args(SamplerName)
    assert {name: sampler.__name__ for name, sampler in SAMPLERS.items()} == {name: name for name in SAMPLERS}


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS.keys())
def test_sampler_converges_to_the_exact_flow(sampler: Sampler) -> None:
    assert error(sampler, 400) < 1e-2
    assert error(sampler, 400) < error(sampler, 50) < error(sampler, 10)


@pytest.mark.parametrize(("sampler", "order"), [(euler, 1), (heun, 2), (dpmpp_2m, 2)])
def test_order_of_convergence(sampler: Sampler, order: int) -> None:
    """Halving the step size divides the error by 2^order."""
    ratio = error(sampler, 100) / error(sampler, 200)
    assert 2**order * 0.8 < ratio < 2**order * 1.35


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS.keys())
def test_constant_velocity_is_exact_in_one_step(sampler: Sampler) -> None:
    x, v = torch.randn(3, 2, 4, 4), torch.randn(3, 2, 4, 4)
    torch.testing.assert_close(sampler(lambda *_: v, x, uniform_times(1)), x - v)
    torch.testing.assert_close(sampler(lambda *_: v, x, [1.0, 0.9, 0.75, 0.5, 0.0]), x - v)


def test_four_steps_with_a_shift_of_three_match_the_few_step_teacher() -> None:
    assert uniform_times(4, 3.0) == pytest.approx([1.0, 0.9, 0.75, 0.5, 0.0])


@pytest.mark.parametrize("times", [[1.0], [1.0, 0.5], [0.5, 1.0, 0.0], [1.0, 0.5, 0.5, 0.0]])
def test_times_that_do_not_decrease_to_zero_are_rejected(times: list[float]) -> None:
    with pytest.raises(ValueError, match="decrease and end at 0"):
        euler(lambda x, _: x, torch.zeros(1, 1, 1, 1), times)


def test_number_of_velocity_evaluations() -> None:
    for sampler, calls in ((euler, 8), (heun, 15), (dpmpp_2m, 8)):
        count = 0

        def counted(x: Tensor, time: Tensor) -> Tensor:
            nonlocal count
            count += 1
            return gaussian_velocity(x, time)

        sampler(counted, torch.randn(2, 1, 1, 1, dtype=torch.float64), uniform_times(8))
        assert count == calls


def test_guidance_extrapolates_from_the_negative_text() -> None:
    def network(x: Tensor, time: Tensor, text: Sequence[TextTokens]) -> Tensor:
        return text[0].mask.float().sum(1).reshape(-1, 1, 1, 1).expand_as(x)

    def tokens(count: int) -> list[TextTokens]:
        return [TextTokens(torch.zeros(2, 4, 3), torch.arange(4)[None].expand(2, -1) < count)]

    x, time = torch.zeros(2, 1, 2, 2), torch.ones(2)
    assert (guided_velocity(network, tokens(3), tokens(1), 4.0)(x, time) == 1 + 4 * (3 - 1)).all()
    assert (guided_velocity(network, tokens(3), tokens(1), 1.0)(x, time) == 3).all()
    assert (guided_velocity(network, tokens(3), tokens(1), 0.0)(x, time) == 1).all()
