"""A roll-out stopped on the way goes on as the sampler does."""

import pytest
import torch
from torch import Tensor, nn

from pocketdit.diffusion.path import data_from_velocity
from pocketdit.diffusion.rollout import roll_out
from pocketdit.diffusion.samplers import euler, uniform_times

TIMES = uniform_times(4, 3.0)  # 1, 0.9, 0.75, 0.5, 0


def velocity(x: Tensor, time: Tensor) -> Tensor:
    return x.sin() + time.reshape(-1, *[1] * (x.ndim - 1)) * x


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_by_hand() -> None:
    """v = x + t: 2 - 0.5 (2 + 1) = 0.5 at t = 1/2, 0.5 - 0.25 (0.5 + 0.5) = 0.25 at t = 1/4."""
    x, t = roll_out(lambda x, t: x + t[:, None], torch.tensor([[2.0], [2.0]]), [1.0, 0.5, 0.25, 0.0], 2)
    assert x.tolist() == [[0.25], [0.25]] and t.tolist() == [0.25, 0.25]


@pytest.mark.parametrize("shape", [(3, 2), (3, 2, 4, 4)])
@pytest.mark.parametrize("steps", range(4))
def test_the_rest_of_the_steps_gives_what_the_sampler_gives(steps: int, shape: tuple[int, ...]) -> None:
    x, t = roll_out(velocity, noise(*shape), TIMES, steps)
    assert t.shape == (3,) and t.tolist() == pytest.approx([TIMES[steps]] * 3)
    assert torch.equal(euler(velocity, x, TIMES[steps:]), euler(velocity, noise(*shape), TIMES))


def test_one_more_step_from_the_last_is_the_data() -> None:
    x, t = roll_out(velocity, noise(3, 2), TIMES, 3)
    torch.testing.assert_close(data_from_velocity(x, t, velocity(x, t)), euler(velocity, noise(3, 2), TIMES))


def test_the_way_has_no_gradient_but_the_next_step_can_have_one() -> None:
    network = nn.Linear(2, 2)
    x, t = roll_out(lambda x, t: network(x), noise(3, 2).requires_grad_(), TIMES, 2)
    assert not x.requires_grad and not x.is_inference()
    data_from_velocity(x, t, network(x)).sum().backward()
    assert network.weight.grad is not None and network.weight.grad.any()


def test_no_step_gives_the_noise_back() -> None:
    x, t = roll_out(velocity, noise(3, 2), TIMES, 0)
    assert torch.equal(x, noise(3, 2)) and t.tolist() == [1.0] * 3


@pytest.mark.parametrize("steps", [-1, 4])
def test_steps_outside_are_refused(steps: int) -> None:
    with pytest.raises(ValueError, match=f"within 0 and 3 for 4 intervals, got {steps}"):
        roll_out(velocity, noise(3, 2), TIMES, steps)


def test_times_must_fall_to_zero() -> None:
    with pytest.raises(ValueError, match="fall and end at 0"):
        roll_out(velocity, noise(3, 2), [1.0, 0.5], 0)
