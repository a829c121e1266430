"""Flow matching losses against hand-computed values, and the balancing of two gradients."""

import pytest
import torch
from torch import nn

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
    self_distillation_loss(sub, full).backward()
    assert full.grad is None
    assert torch.equal(sub.grad, torch.full((3,), -2 / 3))


def sliced_gradients(scale: float) -> tuple[ElasticLinear, gradients.Gradients]:
    """Return a layer that has the gradient of its narrow half, and the full layer's gradient separately."""
    torch.manual_seed(0)
    layer, x = ElasticLinear(8, 6), torch.randn(5, 8)
    layer(x).square().sum().backward()
    full = gradients.take(list(layer.parameters()))
    (scale * layer(x[:, :4], out_features=3).square().sum()).backward()
    return layer, full


def test_norms_cover_only_the_shared_weights() -> None:
    layer, full = sliced_gradients(1.0)
    full_norm, sub_norm = shared_gradient_norms(full, [p.grad for p in layer.parameters()])
    expected = (full[0][:3, :4].square().sum() + full[1][:3].square().sum()).sqrt()
    torch.testing.assert_close(full_norm, expected)
    torch.testing.assert_close(
        sub_norm, (layer.weight.grad[:3, :4].square().sum() + layer.bias.grad[:3].square().sum()).sqrt()
    )


@pytest.mark.parametrize("scale", [0.3, 1.0, 5.0])
def test_balanced_gradient_has_the_full_networks_norm_on_the_shared_weights(scale: float) -> None:
    layer, full = sliced_gradients(scale)
    full_norm, _ = shared_gradient_norms(full, [p.grad for p in layer.parameters()])
    gradients.balance(list(layer.parameters()), full)
    after = torch.cat([layer.weight.grad.flatten(), layer.bias.grad]).norm()
    torch.testing.assert_close(after, full_norm)


def test_scale_is_bounded() -> None:
    assert balancing_scale(torch.tensor(1.0), torch.tensor(0.0)).item() == 10
    assert balancing_scale(torch.tensor(0.0), torch.tensor(1.0)).item() == pytest.approx(0.1)


def test_taking_and_adding_gradients_is_accumulation() -> None:
    layer, x = nn.Linear(3, 2), torch.randn(4, 3)
    layer(x).sum().backward()
    layer(2 * x).square().sum().backward()
    expected = [p.grad.clone() for p in layer.parameters()]
    layer.zero_grad()
    layer(x).sum().backward()
    first = gradients.take(list(layer.parameters()))
    assert all(p.grad is None for p in layer.parameters())
    layer(2 * x).square().sum().backward()
    gradients.add(list(layer.parameters()), first)
    for parameter, gradient in zip(layer.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)
