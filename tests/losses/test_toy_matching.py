"""Tests for step distillation of 2D data: the closed-form teacher, and students trained with DMD and K-DMD."""

import pytest
import torch
from torch import Tensor

from benchmarks import distribution_matching as toy
from pocketdit.diffusion.path import data_from_velocity, interpolate, velocity
from pocketdit.diffusion.samplers import Velocity
from pocketdit.losses import distribution_matching

SEED, ITERATIONS = 0, 2000
# Upper bounds on a student's energy distance for each number of steps. With seeds 0 to 2, one-step students start at
# 0.75 to 0.81 and reach 0.015 to 0.023 with DMD, and 0.015 to 0.018 with K-DMD. Four-step students start at 0.14 to
# 0.16 and reach 0.018 to 0.038 with DMD, and 0.039 to 0.042 with K-DMD. The teacher of K-DMD has a distance of 0.029.
BOUNDS = {1: 0.05, 4: 0.07}


@pytest.fixture(scope="module")
def pretrained() -> toy.Network:
    return toy.pretrain(SEED, 1000)


def test_exact_velocity_is_the_conditional_mean() -> None:
    """The reference is the mean of noise - data for 200,000 data points, weighted by the implied noise's density."""
    data = toy.draw_data(200_000, torch.Generator().manual_seed(0)).double()
    for t in (0.3, 0.6, 0.9):
        for point in ([0.3, 0.4], [-0.8, 0.2], [1.0, -0.6]):
            x = torch.tensor([point], dtype=torch.float64)
            noise = (x - (1 - t) * data) / t
            weights = torch.softmax(-noise.square().sum(1) / 2, dim=0)
            expected = (weights[:, None] * (noise - data)).sum(0)
            exact = toy.exact_velocity(x.float(), torch.tensor([t]))[0]
            torch.testing.assert_close(exact.double(), expected, rtol=0.03, atol=0.03)


def test_exact_velocity_minimizes_the_flow_matching_loss() -> None:
    """The error of the minimizer is orthogonal to every function of x_t, such as x_t and the exact velocity."""
    generator = torch.Generator().manual_seed(1)
    data, noise = toy.draw_data(200_000, generator), toy.draw_noise(200_000, generator)
    time = 0.1 + 0.9 * torch.rand(200_000, generator=generator)
    x_t = interpolate(data, noise, time)
    exact = toy.exact_velocity(x_t, time)
    error = velocity(data, noise) - exact
    for function in (x_t, exact, torch.ones_like(x_t)):
        assert (error * function).mean().abs().item() < 0.01
    # The error is not zero, so the checks above are not trivial.
    assert (error * velocity(data, noise)).mean().item() > 0.1


def test_flow_map_ends_at_data() -> None:
    noise = toy.draw_noise(toy.COUNT, torch.Generator().manual_seed(2))
    time = torch.ones(toy.COUNT)
    data = data_from_velocity(noise, time, toy.flow_map(noise, time))
    assert toy.energy_distance(data, toy.true_samples()) < 0.01


def test_energy_distance_equals_hand_computed_value() -> None:
    """On a line, the distance between the points {0, 2} and {1, 1} is 2 * 1 - (0 + 2 + 2 + 0) / 4 - 0 = 1."""
    a, b = torch.tensor([[0.0, 0.0], [2.0, 0.0]]), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert toy.energy_distance(a, b) == 1.0
    assert toy.energy_distance(a, a) == 0.0


@pytest.mark.parametrize("teacher", [None, toy.flow_map], ids=["DMD", "K-DMD"])
@pytest.mark.parametrize("steps", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_students_learn_the_data_distribution(pretrained: toy.Network, steps: int, teacher: Velocity | None) -> None:
    assert toy.distance(pretrained, steps) > 1.5 * BOUNDS[steps]
    student = toy.distill(pretrained, steps, teacher, SEED, ITERATIONS)
    assert toy.distance(student, steps) < BOUNDS[steps]


@pytest.mark.parametrize("steps", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_students_do_not_learn_with_the_wrong_sign(
    pretrained: toy.Network, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = distribution_matching.matching_gradient

    def negated(x: Tensor, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        gradient, size = original(x, real, fake)
        return -gradient, size

    monkeypatch.setattr(distribution_matching, "matching_gradient", negated)
    student = toy.distill(pretrained, steps, None, SEED, ITERATIONS)
    assert not toy.distance(student, steps) < BOUNDS[steps]
