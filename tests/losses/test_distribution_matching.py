"""Tests the distribution matching gradient and loss against hand-computed values."""

import pytest
import torch
from torch import Tensor

from pocketdit.diffusion.samplers import Velocity
from pocketdit.losses.distribution_matching import distribution_matching_loss, matching_gradient, matching_loss


def test_matching_gradient_equals_hand_computed_values() -> None:
    """p_real is (2, -4) and (0.5, 0.5), with mean absolute values of 3 and 0.5. p_fake is (-1, 2) and (1, 0)."""
    x = torch.tensor([[1.0, 0.0], [2.0, 2.0]])
    real = torch.tensor([[-1.0, 4.0], [1.5, 1.5]])
    fake = torch.tensor([[2.0, -2.0], [1.0, 2.0]])
    gradient, size = matching_gradient(x, real, fake)
    assert gradient.tolist() == [[1.0, -2.0], [-1.0, 1.0]]
    assert size.tolist() == [3.0, 0.5]


def test_gradient_is_normalized_per_sample() -> None:
    x, real, fake = torch.randn(3, 4, 2, 2, 2, generator=torch.Generator().manual_seed(0)).bfloat16().unbind(0)
    gradient, size = matching_gradient(x, real, fake)
    assert gradient.shape == x.shape
    assert gradient.dtype == size.dtype == torch.float32
    assert size.shape == (4,)
    for row in range(4):
        alone, _ = matching_gradient(x[row : row + 1], real[row : row + 1], fake[row : row + 1])
        torch.testing.assert_close(gradient[row : row + 1], alone)
        assert size[row].item() == pytest.approx((x[row].float() - real[row].float()).abs().sum().item() / 8)


def test_size_has_a_floor() -> None:
    x, fake = torch.tensor([[1.0, 1.0]]), torch.tensor([[1.0, 1.5]])
    gradient, size = matching_gradient(x, x, fake, floor=0.1)
    assert gradient.tolist() == [[0.0, 5.0]]
    assert size.tolist() == [0.0]
    assert matching_gradient(x, x, x)[0].tolist() == [[0.0, 0.0]]


def test_nonfinite_gradients_are_zeroed() -> None:
    x, real = torch.zeros(3, 2), torch.ones(3, 2)
    fake = torch.tensor([[float("nan"), 3.0], [float("inf"), 3.0], [2.0, 3.0]])
    assert matching_gradient(x, real, fake)[0].tolist() == [[0.0, 2.0], [0.0, 2.0], [1.0, 2.0]]
    for bad in (float("nan"), float("inf"), float("-inf")):
        real[0, 0] = bad  # also makes the normalizer of this sample non-finite
        gradient, size = matching_gradient(x, real, torch.full((3, 2), 2.0))
        assert gradient.tolist() == [[0.0, 0.0], [1.0, 1.0], [1.0, 1.0]]
        assert size.isfinite().tolist() == [False, True, True]


def test_gradient_of_the_loss_is_the_gradient_over_numel() -> None:
    x = torch.tensor([[1.0, 0.0], [2.0, 2.0]], requires_grad=True)
    gradient = torch.tensor([[1.0, -2.0], [-1.0, 4.0]], requires_grad=True)
    loss = matching_loss(x, gradient)
    assert loss.item() == 0.5 * (1 + 4 + 1 + 16) / 4
    torch.autograd.backward(loss)
    assert x.grad is not None
    assert x.grad.tolist() == [[0.25, -0.5], [-0.25, 1.0]]
    assert gradient.grad is None


@pytest.mark.parametrize("shape", [(2, 2), (2, 3, 4, 4)])
def test_descent_moves_from_the_fake_to_the_real_estimate(shape: tuple[int, ...]) -> None:
    """The teacher always estimates -1 and the critic +1, so gradient descent must decrease x."""

    def velocity_to(data: float) -> Velocity:
        return lambda x, t: (x - data) / t.reshape(-1, *[1] * (x.ndim - 1))

    generator = torch.Generator().manual_seed(0)
    x0 = torch.zeros(shape, requires_grad=True)
    noise, time = torch.randn(shape, generator=generator), torch.tensor([0.3, 0.9])
    loss, size = distribution_matching_loss(x0, noise, time, velocity_to(-1.0), velocity_to(1.0))
    torch.autograd.backward(loss)
    assert x0.grad is not None
    # (p_real - p_fake) / mean |p_real| = (1 + 1) / 1 for every element.
    torch.testing.assert_close(x0.grad, torch.full(shape, 2.0 / x0.numel()))
    assert size.item() == pytest.approx(1.0)
    assert loss.item() == pytest.approx(0.5 * 2**2)


def test_teacher_and_critic_get_noised_data_but_no_gradient() -> None:
    weight = torch.tensor(1.0, requires_grad=True)
    calls: list[tuple[Tensor, Tensor]] = []

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        assert not x.requires_grad
        calls.append((x, t))
        return weight * x

    x0 = torch.tensor([[4.0, 8.0], [0.0, 2.0]], requires_grad=True)
    time = torch.tensor([0.25, 0.5])
    loss, size = distribution_matching_loss(x0, torch.ones(2, 2), time, velocity, lambda x, t: 2 * velocity(x, t))
    for x, t in calls:
        assert x.tolist() == [[3.25, 6.25], [0.5, 1.5]]
        assert t is time
    assert len(calls) == 2
    assert not size.requires_grad
    # The data estimates are (1 - t) x_t, so p_real is (1.5625, 3.3125) and (-0.25, 1.25).
    assert size.item() == pytest.approx((2.4375 + 0.75) / 2)
    torch.autograd.backward(loss)
    assert weight.grad is None
    # fake - real is -t x_t, which is (-0.8125, -1.5625) and (-0.25, -0.75), divided by the sizes and the 4 elements.
    expected = torch.tensor([[-0.8125 / 2.4375, -1.5625 / 2.4375], [-0.25 / 0.75, -0.75 / 0.75]]) / 4
    torch.testing.assert_close(x0.grad, expected)


def test_equal_estimates_give_no_gradient() -> None:
    x0 = torch.randn(4, 2, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss, _ = distribution_matching_loss(x0, torch.ones(4, 2), torch.full((4,), 0.5), *[lambda x, t: x] * 2)
    torch.autograd.backward(loss)
    assert loss.item() == 0
    assert x0.grad is not None
    assert not x0.grad.any()
