"""Tests that a rollout followed by the remaining sampler steps is equivalent to the full sampler."""

import pytest
import torch
from torch import Tensor, nn

from pocketdit.diffusion.path import data_from_velocity
from pocketdit.diffusion.rollout import euler_rollout
from pocketdit.diffusion.samplers import euler, uniform_times

TIMES = uniform_times(4, 3.0)  # the times 1, 0.9, 0.75, 0.5, 0


def velocity(x: Tensor, time: Tensor) -> Tensor:
    return x.sin() + time.reshape(-1, *[1] * (x.ndim - 1)) * x


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_rollout_equals_hand_computed_values() -> None:
    """From x = 2 with v = x + t, x is 2 - 0.5 (2 + 1) = 0.5 at t = 1/2 and 0.5 - 0.25 (0.5 + 0.5) = 0.25 at t = 1/4."""
    x, t = euler_rollout(lambda x, t: x + t[:, None], torch.tensor([[2.0], [2.0]]), [1.0, 0.5, 0.25, 0.0], 2)
    assert x.tolist() == [[0.25], [0.25]]
    assert t.tolist() == [0.25, 0.25]


@pytest.mark.parametrize("shape", [(3, 2), (3, 2, 4, 4)])
@pytest.mark.parametrize("steps", range(4))
def test_rollout_and_remaining_steps_equal_the_sampler(steps: int, shape: tuple[int, ...]) -> None:
    x, t = euler_rollout(velocity, noise(*shape), TIMES, steps)
    assert t.shape == (3,)
    assert t.tolist() == pytest.approx([TIMES[steps]] * 3)
    assert torch.equal(euler(velocity, x, TIMES[steps:]), euler(velocity, noise(*shape), TIMES))


def test_data_estimate_after_the_last_rollout_step_is_the_sample() -> None:
    x, t = euler_rollout(velocity, noise(3, 2), TIMES, 3)
    torch.testing.assert_close(data_from_velocity(x, t, velocity(x, t)), euler(velocity, noise(3, 2), TIMES))


def test_rollout_has_no_gradient_but_the_next_step_can() -> None:
    network = nn.Linear(2, 2)
    x, t = euler_rollout(lambda x, t: network(x), noise(3, 2).requires_grad_(), TIMES, 2)
    assert not x.requires_grad
    assert not x.is_inference()
    torch.autograd.backward(data_from_velocity(x, t, network(x)).sum())
    assert network.weight.grad is not None
    assert network.weight.grad.any()


def test_rollout_without_steps_returns_the_noise() -> None:
    x, t = euler_rollout(velocity, noise(3, 2), TIMES, 0)
    assert torch.equal(x, noise(3, 2))
    assert t.tolist() == [1.0] * 3


@pytest.mark.parametrize("steps", [-1, 4])
def test_steps_out_of_range_are_rejected(steps: int) -> None:
    with pytest.raises(ValueError, match=f"between 0 and 3 for 4 intervals, got {steps}"):
        euler_rollout(velocity, noise(3, 2), TIMES, steps)


def test_times_must_decrease_to_zero() -> None:
    with pytest.raises(ValueError, match="decrease and end at 0"):
        euler_rollout(velocity, noise(3, 2), [1.0, 0.5], 0)
