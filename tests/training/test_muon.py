"""Tests for Muon, compared with PyTorch's implementation, and for its combination with AdamW."""

import copy

import pytest
import torch
from torch import nn

from pocketdit.training.muon import Muon, MuonAdamW, orthogonalize


@pytest.fixture(params=[False, True], ids=["fp32", "bf16"])
def bf16_units(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Return whether the processor should report bf16 units."""
    monkeypatch.setattr("pocketdit.training.muon.has_bf16_units", lambda device: request.param)
    return bool(request.param)


@pytest.mark.parametrize("shape", [(24, 24), (16, 64), (64, 16)])
def test_singular_values_move_close_to_one(shape: tuple[int, int], bf16_units: bool) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    result = orthogonalize(matrix)
    values = torch.linalg.svdvals(result)
    assert values.min() > 0.6
    assert values.max() < 1.3
    # The singular vectors are unchanged: the product with the original is symmetric and positive.
    product = result.T @ matrix if shape[0] >= shape[1] else result @ matrix.T
    torch.testing.assert_close(product, product.T, atol=0.2 if bf16_units else 2e-3, rtol=1e-3)
    assert torch.linalg.eigvalsh((product + product.T) / 2).min() > 0


@pytest.mark.parametrize("shape", [(32, 32), (16, 48), (48, 16)])
def test_steps_match_pytorch_up_to_bf16_rounding(shape: tuple[int, int], bf16_units: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(shape, generator=generator)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    a = Muon([ours], lr=0.02, momentum=0.9, weight_decay=0.1)
    b = torch.optim.Muon(
        [theirs], lr=0.02, momentum=0.9, weight_decay=0.1, adjust_lr_fn="match_rms_adamw", nesterov=True
    )
    for _ in range(5):
        ours.grad = torch.randn(shape, generator=generator)
        theirs.grad = ours.grad.clone()
        a.step()
        b.step()  # type: ignore[no-untyped-call]  # torch does not annotate it
    moved = (theirs - start).norm()
    assert (ours - theirs).norm() < (1e-3 if bf16_units else 0.03) * moved


class SmallNetwork(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(3, 8)
        self.blocks = nn.ModuleList([nn.Linear(8, 8), nn.Linear(8, 2)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.blocks[1](torch.tanh(self.blocks[0](self.embed(x))))
        return output


def named_parameters(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(f"stage.{name}", parameter) for name, parameter in model.named_parameters()]


def test_muon_gets_the_block_matrices_and_adamw_the_other_parameters() -> None:
    model = SmallNetwork()
    optimizer = MuonAdamW(named_parameters(model))
    inside = {id(p) for group in optimizer.parts["muon"].param_groups for p in group["params"]}
    assert inside == {id(model.blocks[0].weight), id(model.blocks[1].weight)}


def test_state_survives_a_checkpoint() -> None:
    x, y = torch.randn(16, 3), torch.randn(16, 2)

    def train(model: SmallNetwork, optimizer: MuonAdamW, steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            (model(x) - y).square().mean().backward()
            optimizer.step()

    torch.manual_seed(0)
    uninterrupted = SmallNetwork()
    first = MuonAdamW(named_parameters(uninterrupted))
    train(uninterrupted, first, 5)
    resumed = SmallNetwork()
    resumed.load_state_dict(uninterrupted.state_dict())
    second = MuonAdamW(named_parameters(resumed))
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    train(uninterrupted, first, 5)
    train(resumed, second, 5)
    for a, b in zip(uninterrupted.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


def test_group_learning_rates_reach_both_optimizers() -> None:
    model = SmallNetwork()
    optimizer = MuonAdamW(named_parameters(model))
    before = [p.detach().clone() for p in model.parameters()]
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    model(torch.randn(4, 3)).sum().backward()
    optimizer.step()
    assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))
