"""Tests Muon against PyTorch's implementation, and tests its combination with AdamW."""

import copy

import pytest
import torch
from torch import nn

from pocketdit.training import muon
from pocketdit.training.muon import ConvolutionMuonAdamW, Muon, MuonAdamW, orthogonalize, orthogonalize_all


@pytest.fixture(params=[False, True], ids=["fp32", "bf16"])
def bf16_units(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Simulate a processor with or without bf16 units, and return whether it has them."""
    monkeypatch.setattr(muon, "has_bf16_units", lambda device: request.param)
    return bool(request.param)


def polar_factor(matrix: torch.Tensor) -> torch.Tensor:
    u, _, vh = torch.linalg.svd(matrix.double(), full_matrices=False)
    factor: torch.Tensor = (u @ vh).float()
    return factor


@pytest.mark.parametrize("shape", [(24, 24), (16, 64), (64, 16)])
def test_result_is_close_to_the_polar_factor(shape: tuple[int, int], bf16_units: bool) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    if shape[0] == shape[1]:
        matrix += 4 * torch.eye(shape[0])  # keep the singular values large enough for the iterations
    (result,) = orthogonalize(matrix[None])
    values = torch.linalg.svdvals(result)
    assert values.min() > (0.6 if bf16_units else 0.79)
    assert values.max() < (1.25 if bf16_units else 1.21)
    assert (result - polar_factor(matrix)).norm() < 0.21 * polar_factor(matrix).norm()


def test_singular_values_follow_the_product_of_the_polynomials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Singular values from 0.003 to 1 are mapped to 0.8 to 1.2. Much smaller values grow by a factor of about 290."""
    monkeypatch.setattr(muon, "has_bf16_units", lambda device: False)
    values = torch.logspace(-2.52, -0.2, 64)
    values /= values.norm()
    values = torch.cat([values[values > 0.003], torch.tensor([1e-5])])
    result = orthogonalize(torch.diag(values / values.norm())[None])[0].diagonal()
    assert 0.79 < result[:-1].min() < result[:-1].max() < 1.21
    assert result[-1] == pytest.approx(290e-5, rel=0.05)


@pytest.mark.parametrize("shape", [(24, 30), (24, 60), (60, 24)])
@pytest.mark.parametrize("iterations", [4, 5])
def test_result_equals_separate_iterations(
    shape: tuple[int, int], iterations: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An elongated matrix is multiplied only once per two iterations, and other matrices in every iteration."""
    coefficients = (*muon.COEFFICIENTS, muon.COEFFICIENTS[-1])[:iterations]
    monkeypatch.setattr(muon, "has_bf16_units", lambda device: False)
    monkeypatch.setattr(muon, "COEFFICIENTS", coefficients)
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    x = (matrix / matrix.norm()).double()
    for a, b, c in coefficients:
        gram = x @ x.mT
        x = a * x + b * gram @ x + c * gram @ gram @ x
    torch.testing.assert_close(orthogonalize(matrix[None])[0], x.float(), atol=2e-4, rtol=0)


def test_stacked_matrices_equal_separate_ones(bf16_units: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    matrices = [torch.randn(shape, generator=generator) for shape in [(16, 48), (24, 24), (16, 48), (48, 16)]]
    for matrix, result in zip(matrices, orthogonalize_all(matrices), strict=True):
        torch.testing.assert_close(result, orthogonalize(matrix[None])[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shape", [(32, 32), (16, 48), (48, 16)])
def test_steps_follow_momentum_and_scale_of_pytorch(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """With PyTorch's coefficients, the steps equal those of ``torch.optim.Muon``, except for its bf16 rounding."""
    monkeypatch.setattr(muon, "has_bf16_units", lambda device: False)
    monkeypatch.setattr(muon, "COEFFICIENTS", ((3.4445, -4.7750, 2.0315),) * 5)
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
        b.step()  # type: ignore[no-untyped-call]  # torch does not annotate this method
    moved = (theirs - start).norm()
    assert (ours - theirs).norm() < 0.03 * moved


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


def test_a_convolution_is_updated_like_the_matrix_of_its_kernel() -> None:
    torch.manual_seed(0)
    convolution = nn.Conv2d(3, 8, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    matrix = nn.Parameter(convolution.weight.detach().flatten(1).clone())
    bias = nn.Parameter(convolution.bias.detach().clone())
    together = ConvolutionMuonAdamW(named_parameters(convolution), lr=0.1, adamw_lr=0.01)
    muon_alone, adamw = Muon([matrix], lr=0.1), torch.optim.AdamW([bias], lr=0.01, betas=(0.9, 0.99), weight_decay=0)
    for _ in range(3):
        gradient, bias_gradient = torch.randn(8, 27), torch.randn(8)
        convolution.weight.grad = gradient.view(8, 3, 3, 3).to(memory_format=torch.channels_last)
        convolution.bias.grad, matrix.grad, bias.grad = bias_gradient, gradient, bias_gradient
        for optimizer in (together, muon_alone, adamw):
            optimizer.step()
    torch.testing.assert_close(convolution.weight.flatten(1), matrix)
    torch.testing.assert_close(convolution.bias, bias)
