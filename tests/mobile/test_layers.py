"""Tests for the normalization of the mobile form, which does not overflow in fp16."""

import pytest
import torch
import torch.nn.functional as F

from pocketdit.mobile.layers import normalize


@pytest.mark.parametrize("scale", [1e-3, 1.0, 300.0])
def test_normalize_equals_layer_norm(scale: float) -> None:
    x = scale * torch.randn(2, 16, 3, 5) + 2 * scale
    reference = F.layer_norm(x.transpose(1, 3), (16,), eps=1e-5).transpose(1, 3)
    assert torch.allclose(normalize(x, 1, 1e-5), reference, atol=2e-6)


def test_large_numbers_do_not_overflow_fp16() -> None:
    """Squares of numbers above 255 overflow, but ``normalize`` supports deviations of up to 1023 from the mean."""
    torch.manual_seed(0)
    x = (torch.randn(1, 64, 1, 8).clamp(-2, 2) * 400 + 3000).half()
    centered = x - x.mean(1, keepdim=True)
    assert not torch.isfinite(centered.square()).all()
    reference = F.layer_norm(x.float().transpose(1, 3), (64,)).transpose(1, 3)
    assert torch.allclose(normalize(x, 1, 1e-5).float(), reference, atol=1e-2)


def test_constant_token_becomes_zero_in_fp16() -> None:
    assert torch.equal(normalize(torch.full((1, 8, 1, 2), 3.0).half(), 1, 1e-6), torch.zeros(1, 8, 1, 2).half())
