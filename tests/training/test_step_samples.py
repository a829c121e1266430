"""Tests that all samples of a step have the same weight, even if the step's batches differ in size."""

import pytest
import torch

from pocketdit.training.step_samples import StepSamples


def accumulated(sizes: list[int], samples: StepSamples, data: torch.Tensor) -> torch.Tensor:
    """Return the gradient of a step that accumulates batches of the given sizes."""
    weight = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    unused = torch.nn.Parameter(torch.ones(2))
    for batch in data.split(sizes):  # type: ignore[no-untyped-call]  # torch does not annotate this method
        ((batch @ weight).square().mean() * samples.share(len(batch))).backward()  # type: ignore[no-untyped-call]
    samples.normalize([weight, unused])
    assert weight.grad is not None
    assert unused.grad is None
    return weight.grad


@pytest.mark.parametrize("sizes", [[4, 4, 2], [2, 4, 4], [1, 7], [5], [3, 3, 3]])
def test_the_gradient_is_that_of_all_samples_at_once(sizes: list[int]) -> None:
    data = torch.randn(sum(sizes), 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    samples = StepSamples(len(sizes))
    expected = accumulated([sum(sizes)], StepSamples(1), data)
    for _ in range(2):  # the second pass checks that the first step does not affect the second
        assert torch.allclose(accumulated(sizes, samples, data), expected, rtol=1e-12)


def test_batches_of_equal_size_are_not_corrected() -> None:
    samples = StepSamples(3)
    parameter = torch.nn.Parameter(torch.ones(1))
    parameter.grad = torch.tensor([0.1])
    assert [samples.share(5) for _ in range(3)] == [1 / 3] * 3
    samples.normalize([parameter])
    assert torch.equal(parameter.grad, torch.tensor([0.1]))
