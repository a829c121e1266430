"""Tests the flow matching losses against hand-computed values, and tests the balancing of two gradients."""

import pytest
import torch
from torch import Tensor, nn

from pocketdit.backbones.elastic import ElasticLinear
from pocketdit.losses.flow_matching import (
    balancing_scale,
    flow_matching_loss,
    self_distillation_loss,
    shared_gradient_norms,
)
from pocketdit.training import gradients


def test_flow_matching_loss_equals_hand_computed_value() -> None:
    a, b = torch.tensor([[1.0, 2.0], [3.0, 5.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert flow_matching_loss(a, b).item() == pytest.approx((0 + 4 + 9 + 16) / 4)


def test_self_distillation_gives_no_gradient_to_the_full_network() -> None:
    full, sub = torch.ones(3, requires_grad=True), torch.zeros(3, requires_grad=True)
    torch.autograd.backward(self_distillation_loss(sub, full))
    assert full.grad is None
    assert sub.grad is not None
    assert torch.equal(sub.grad, torch.full((3,), -2 / 3))


def current_gradients(module: nn.Module) -> list[Tensor]:
    """Return the gradients of all parameters, and fail if a gradient is missing."""
    current = []
    for parameter in module.parameters():
        assert parameter.grad is not None
        current.append(parameter.grad)
    return current


def sliced_gradients(scale: float) -> tuple[ElasticLinear, list[Tensor]]:
    """Return a layer that has the gradients of a half-width pass, and a list of the gradients of a full-width pass."""
    torch.manual_seed(0)
    layer, x = ElasticLinear(8, 6), torch.randn(5, 8)
    layer(x).square().sum().backward()
    full = current_gradients(layer)
    layer.zero_grad()
    (scale * layer(x[:, :4], out_features=3).square().sum()).backward()
    return layer, full


def test_norms_cover_only_the_shared_weights() -> None:
    layer, full = sliced_gradients(1.0)
    sub = current_gradients(layer)
    full_norm, sub_norm = shared_gradient_norms(full, sub)
    for norm, (weight, bias) in ((full_norm, full), (sub_norm, sub)):
        torch.testing.assert_close(norm, (weight[:3, :4].square().sum() + bias[:3].square().sum()).sqrt())


@pytest.mark.parametrize("scale", [0.3, 1.0, 5.0])
def test_balanced_gradient_has_the_norm_of_the_full_networks_gradient(scale: float) -> None:
    layer, full = sliced_gradients(scale)
    full_norm, _ = shared_gradient_norms(full, current_gradients(layer))
    gradients.balance(list(layer.parameters()), list(full))
    balanced = torch.cat([gradient.flatten() for gradient in current_gradients(layer)])
    torch.testing.assert_close(balanced.norm(), full_norm)


def test_scale_is_bounded() -> None:
    assert balancing_scale(torch.tensor(1.0), torch.tensor(0.0)).item() == 10
    assert balancing_scale(torch.tensor(0.0), torch.tensor(1.0)).item() == pytest.approx(0.1)


def test_setting_gradients_aside_and_adding_them_accumulates_them() -> None:
    layer, x = nn.Linear(3, 2), torch.randn(4, 3)
    layer(x).sum().backward()
    layer(2 * x).square().sum().backward()
    expected = [gradient.clone() for gradient in current_gradients(layer)]
    layer.zero_grad()
    layer(x).sum().backward()
    first = gradients.swap(list(layer.parameters()), [])
    assert all(p.grad is None for p in layer.parameters())
    layer(2 * x).square().sum().backward()
    gradients.add(list(layer.parameters()), first)
    torch.testing.assert_close(current_gradients(layer), expected)
