"""Tests the distillation losses and their timestep-aware scaling against hand-computed values."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from pocketdit.diffusion.path import draw_times
from pocketdit.losses.distillation import feature_loss, output_loss, task_weight, timestep_scaling

TIMES = torch.linspace(0, 1, 100_001)
SHAPES = [(0.0, 1.0), (math.log(3), 1.5), (math.log(3), 1.0), (-0.7, 0.5), (0.0, 3.0), (1.0, 2.5), (-2.0, 2.0)]


def test_output_loss_equals_hand_computed_values() -> None:
    prediction = torch.tensor([[[1.0, 2.0]], [[3.0, 4.0]]])
    teacher = torch.tensor([[[1.0, 0.0]], [[0.0, 0.0]]])
    assert output_loss(prediction, teacher).tolist() == [2.0, 12.5]  # (0 + 4) / 2 and (9 + 16) / 2


def test_feature_loss_equals_hand_computed_values() -> None:
    projected = torch.tensor([[[1.0, 0.0], [2.0, 2.0]], [[0.0, 0.0], [0.0, 6.0]]])
    teacher = torch.tensor([[[0.0, 0.0], [2.0, 1.0]], [[0.0, 0.0], [0.0, 0.0]]])
    assert feature_loss(projected, teacher).tolist() == [0.5, 9.0]  # (1 + 0 + 0 + 1) / 4 and 36 / 4


@pytest.mark.parametrize("loss", [output_loss, feature_loss])
def test_teacher_gets_no_gradient_and_loss_is_float32(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    student = torch.zeros(2, 3, 4, dtype=torch.bfloat16, requires_grad=True)
    teacher = torch.ones(2, 3, 4, dtype=torch.bfloat16, requires_grad=True)
    value = loss(student, teacher)
    assert value.dtype == torch.float32
    torch.autograd.backward(value.sum())
    assert teacher.grad is None
    assert student.grad is not None
    torch.testing.assert_close(student.grad.float(), torch.full((2, 3, 4), -2 / 12), rtol=1e-2, atol=0)


def test_density_equals_hand_computed_values() -> None:
    """The maximum is at t = 1/2. At t = 0.8, the logit is ln 4, and the weight is exp(-ln(4)^2 / 2) * 0.25 / 0.16."""
    weight = task_weight(torch.tensor([0.5, 0.8, 0.2]), 0.0, 1.0, "density")
    torch.testing.assert_close(weight, torch.tensor([1.0, 0.597728, 0.597728]), rtol=1e-5, atol=0)


@pytest.mark.parametrize(("mean", "spread"), SHAPES)
def test_density_equals_the_formula_divided_by_its_maximum(mean: float, spread: float) -> None:
    t = TIMES[1:-1].double()
    logit = (t / (1 - t)).log()
    density = (-((logit - mean) ** 2) / (2 * spread**2)).exp() / (spread * math.sqrt(2 * math.pi) * t * (1 - t))
    weight = task_weight(TIMES, mean, spread, "density")
    assert 1 - 1e-4 < weight.max().item() < 1 + 1e-5
    torch.testing.assert_close(weight[1:-1].double(), density / density.max(), rtol=1e-3, atol=1e-4)
    if mean or spread**2 < 2:  # for other parameters, the density has two equal peaks
        assert TIMES[weight.argmax()].item() == pytest.approx(t[density.argmax()].item(), abs=2e-3)


@pytest.mark.parametrize(("mean", "spread"), SHAPES)
def test_density_is_zero_at_the_ends(mean: float, spread: float) -> None:
    ends = torch.tensor([0.0, 1e-30, 1 - 2**-24, 1.0])
    weight = task_weight(ends, mean, spread, "density")
    assert weight.isfinite().all()
    assert weight[0] == 0
    assert weight[-1] == 0
    assert weight[1] < 1e-6


def test_cdf_equals_hand_computed_values() -> None:
    """The weight is 1/2 at logit t = mean, and Phi(1) = 0.841345 at logit t = mean + spread."""
    times = torch.sigmoid(torch.tensor([-math.inf, 0.4 - 1.5, 0.4, 0.4 + 1.5, math.inf]))
    weight = task_weight(times, 0.4, 1.5, "cdf")
    torch.testing.assert_close(weight, torch.tensor([0.0, 0.158655, 0.5, 0.841345, 1.0]), rtol=0, atol=1e-5)


def test_mean_logit_of_shifted_training_times_is_log_shift() -> None:
    """The cumulative distribution function of the training times maps the times to uniform values."""
    times = draw_times(1000, 3.0, 1.5, torch.Generator().manual_seed(0))
    uniform = (torch.arange(1000) + 0.5) / 1000
    torch.testing.assert_close(task_weight(times, math.log(3), 1.5, "cdf"), uniform, rtol=0, atol=1e-3)


def test_zero_spread_is_rejected() -> None:
    with pytest.raises(ValueError, match="spread must be positive, got 0"):
        task_weight(torch.tensor([0.5]), 0.0, 0.0, "density")


def test_timestep_scaling_equals_hand_computed_values() -> None:
    """The ratio is (1 + 3) / (4 + 12) = 1/4, the loss (0.75 * 1 + 0.25 * 4 / 4 + 0.5 * 3 + 0.5 * 12 / 4) / 2 = 2."""
    task, teacher = torch.tensor([1.0, 3.0]), torch.tensor([4.0, 12.0])
    assert timestep_scaling(task, teacher, torch.tensor([0.75, 0.5])).item() == 2.0
    assert timestep_scaling(task, teacher, torch.ones(2)).item() == task.mean().item()
    # The teacher's loss is scaled to the magnitude of the task loss.
    assert timestep_scaling(task, teacher, torch.zeros(2)).item() == task.mean().item()


def test_ratio_gets_no_gradient() -> None:
    task = torch.tensor([1.0, 3.0], requires_grad=True)
    teacher = torch.tensor([4.0, 12.0], requires_grad=True)
    torch.autograd.backward(timestep_scaling(task, teacher, torch.tensor([0.75, 0.5])))
    assert task.grad is not None
    assert task.grad.tolist() == [0.375, 0.25]
    assert teacher.grad is not None
    assert teacher.grad.tolist() == [0.03125, 0.0625]


def test_zero_teacher_loss_does_not_divide_by_zero() -> None:
    teacher = torch.zeros(2, requires_grad=True)
    value = timestep_scaling(torch.tensor([1.0, 3.0]), teacher, torch.tensor([0.75, 0.5]))
    assert value.item() == 1.125
    torch.autograd.backward(value)
    assert teacher.grad is not None
    assert teacher.grad.isfinite().all()
