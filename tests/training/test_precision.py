"""Tests for choosing the precision in which a run trains and samples."""

import pytest
import torch

from pocketdit.training.precision import has_bf16_units, inference_autocast, inference_dtype, resolve_precision


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


@pytest.mark.parametrize("has_units", [False, True])
def test_a_run_is_sampled_in_its_own_precision(has_units: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": has_units})
    assert inference_dtype("auto", "cpu") is (torch.bfloat16 if has_units else torch.float32)
    assert inference_dtype("32-true", "cpu") is torch.float32
    assert inference_dtype("bf16-mixed", "cpu") is torch.bfloat16
    layer, x = torch.nn.Linear(2, 2), torch.randn(1, 2)
    with inference_autocast("auto", "cpu"):
        assert layer(x).dtype is inference_dtype("auto", "cpu")
