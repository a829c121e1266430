"""Tests for the precision of a run and for attention in bf16."""

import pytest
import torch

from pocketdit.backbones.neighborhood import grouped_attention
from pocketdit.training.precision import has_bf16_units, resolve_precision


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx512_bf16": True}, "bf16-mixed"),
        ({"amx_bf16": True}, "bf16-mixed"),
        ({"avx512_f": True}, "32-true"),
        ({}, "32-true"),
    ],
)
def test_a_cpu_uses_bf16_if_it_has_the_instructions(
    capabilities: dict[str, bool], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert resolve_precision("auto", "cpu") == expected
    assert resolve_precision("32-true", "cpu") == "32-true"
    assert has_bf16_units("cuda")


@pytest.mark.parametrize("masked", [False, True])
def test_attention_in_bf16_is_computed_in_fp32_on_a_cpu(masked: bool) -> None:
    """Even under autocast, the result equals fp32 attention on the rounded inputs, rounded once."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, heads, 12, 8, generator=generator).bfloat16() for heads in (4, 2, 2))
    mask = torch.ones(2, 1, 12, 12, dtype=torch.bool).tril() if masked else None
    with torch.autocast("cpu", torch.bfloat16):
        result = grouped_attention(q, k, v, mask)
    assert result.dtype is torch.bfloat16
    torch.testing.assert_close(result, grouped_attention(q.float(), k.float(), v.float(), mask).bfloat16())
