"""Tests for choosing among the implementations (forms) of attention."""

from dataclasses import replace

import pytest
import torch

from pocketdit.backbones.attention import build_self_attention
from pocketdit.backbones.form_timing import attention_in, fastest_form, random_inputs, time_forms
from pocketdit.backbones.forms import (
    Workload,
    choose_dtype,
    dtype_forms,
    first_form,
    grouped_forms,
    local_forms,
    one_block,
)
from pocketdit.backbones.spec import AdaptiveSparseAttention

CPU = torch.device("cpu")
FULL = Workload(CPU, torch.float32, gradient=False, batch=2, heads=4, groups=2, queries=64, keys=64, channels=8)
LOCAL = replace(FULL, blocks=4, radius=1)
BF16 = replace(FULL, dtype=torch.bfloat16)


@pytest.mark.parametrize(
    "workload", [FULL, replace(FULL, keys=16, hidden_keys=True), LOCAL, replace(LOCAL, queries=61, keys=61)]
)
@pytest.mark.parametrize("gradient", [False, True])
def test_all_forms_compute_the_same(workload: Workload, gradient: bool) -> None:
    workload = replace(workload, gradient=gradient)
    forms = local_forms(workload) if workload.blocks else grouped_forms(workload)
    assert len(forms) > 1
    inputs = random_inputs(workload)
    first, *others = [attention_in(form, workload)(*inputs) for form in forms]
    assert first.requires_grad == gradient
    for other in others:
        torch.testing.assert_close(other, first, atol=1e-5, rtol=0)


def test_dtypes_differ_by_the_rounding_of_bf16() -> None:
    q, k, v = random_inputs(BF16)
    exact = attention_in("shared", FULL)(q.float(), k.float(), v.float())
    fp32, bf16 = (attention_in(form, BF16)(q, k, v) for form in ("float32", "bfloat16"))
    assert torch.equal(fp32, exact.bfloat16())
    torch.testing.assert_close(bf16, fp32, atol=0.02, rtol=0)


def test_attention_with_a_gradient_is_never_computed_in_bf16_on_a_cpu() -> None:
    assert dtype_forms(replace(BF16, gradient=True)) == ("float32",)
    assert choose_dtype(first_form, replace(BF16, gradient=True)).dtype is torch.float32
    assert choose_dtype(first_form, replace(BF16, device=torch.device("cuda"))).dtype is torch.bfloat16


@pytest.mark.parametrize(("has_amx", "expected"), [(True, "bfloat16"), (False, "float32")])
def test_default_dtype_without_a_gradient(has_amx: bool, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": has_amx})
    assert dtype_forms(BF16)[0] == expected


def test_forms_for_a_gpu() -> None:
    """FlexAttention requires a GPU. No attention kernel for GPUs accepts both a mask and shared keys."""
    gpu = torch.device("cuda")
    assert "flex" in local_forms(replace(LOCAL, device=gpu))
    assert "flex" not in local_forms(LOCAL)
    assert "shared" not in grouped_forms(replace(FULL, device=gpu, hidden_keys=True))


def test_a_single_form_is_not_timed() -> None:
    assert grouped_forms(replace(FULL, groups=4)) == ("shared",)
    assert fastest_form(replace(FULL, device=torch.device("cuda"), groups=4), ("shared",)) == "shared"


def test_the_default_is_kept_unless_another_form_is_clearly_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {"shared": 1.0, "folded": 0.97, "repeated": 2.0}
    monkeypatch.setattr("pocketdit.backbones.form_timing.time_forms", lambda workload, forms: seconds)
    forms = grouped_forms(replace(FULL, gradient=True))
    assert fastest_form(FULL, forms) == "shared"
    seconds["folded"] = 0.9
    assert fastest_form(FULL, forms) == "folded"


@pytest.mark.parametrize("gradient", [False, True])
def test_timing_leaves_torch_as_it_was(gradient: bool) -> None:
    """Timing works in inference mode and under autocast, and does not advance the global random number generator."""
    state = torch.get_rng_state()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        seconds = time_forms(replace(LOCAL, gradient=gradient), local_forms(LOCAL), rounds=1)
        assert torch.is_inference_mode_enabled()
        assert torch.is_autocast_enabled("cpu")
    assert all(0 < value < 60 for value in seconds.values())
    assert torch.equal(torch.get_rng_state(), state)


def test_a_form_that_cannot_run_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_memory(*_: object) -> None:
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr("pocketdit.backbones.neighborhood.masked_attention", out_of_memory)
    forms = local_forms(replace(LOCAL, blocks=16))
    assert forms[0] == "masked"
    assert fastest_form(replace(LOCAL, blocks=16), forms) == "looped"


def test_a_block_attends_to_its_neighborhood() -> None:
    block = one_block(replace(LOCAL, queries=61, keys=61))
    assert (block.queries, block.keys, block.blocks) == (16, 48, 0)
    assert one_block(replace(LOCAL, radius=9)).keys == 64


def test_a_layer_in_bf16_uses_the_chosen_dtype() -> None:
    """All branches of ASSA are computed in fp32 and rounded once."""
    torch.manual_seed(0)
    layer = build_self_attention(32, 8, AdaptiveSparseAttention("assa", 2, 4, 1))
    x = torch.randn(2, 64, 32)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        forms = layer.choose_forms(x, first_form)
        cos_sin = (torch.ones(64, 4), torch.zeros(64, 4))
        outputs = [
            layer.attend(x, (8, 8), cos_sin, forms._replace(dtype=dtype)) for dtype in (torch.float32, torch.bfloat16)
        ]
    assert [output.dtype for output in outputs] == [torch.float32, torch.bfloat16]
    torch.testing.assert_close(outputs[1].float(), outputs[0], atol=0.05, rtol=0)
