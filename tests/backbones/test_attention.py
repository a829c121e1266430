"""Tests ASSA against its formula, with gradients and without them, when it interpolates the branches in place."""

from typing import get_args

import pytest
import torch
import torch.nn.functional as F

from pocketdit.backbones.attention import AdaptiveSparseSelfAttention
from pocketdit.backbones.forms import AttentionForms, GroupedForm, LocalForm
from pocketdit.backbones.neighborhood import masked_attention
from pocketdit.backbones.position import axial_rope
from pocketdit.backbones.spec import AdaptiveSparseAttention

HEAD_DIM, HEADS, BLOCKS, RADIUS = 8, 6, 3, 1


@pytest.mark.parametrize("gradient", [True, False])
@pytest.mark.parametrize("grid", [(2, 4), (8, 8), (10, 14)])
@pytest.mark.parametrize("grouped", get_args(GroupedForm))
@pytest.mark.parametrize("local", ["looped", "masked"])
def test_adaptive_sparse_attention_matches_its_formula(
    grid: tuple[int, int], gradient: bool, grouped: GroupedForm, local: LocalForm
) -> None:
    torch.manual_seed(0)
    width = HEADS * HEAD_DIM
    module = AdaptiveSparseSelfAttention(width, HEAD_DIM, AdaptiveSparseAttention("assa", 2, BLOCKS, RADIUS))
    x = torch.randn(2, grid[0] * grid[1], width)
    cos_sin = axial_rope(*grid, HEAD_DIM, 100.0, torch.device("cpu"))

    q, k, v = module.project(x, cos_sin)
    global_output = F.scaled_dot_product_attention(
        q,
        module.compress(k, module.compress_k, module.compressed_k_norm, grid),
        module.compress(v, module.compress_v, module.compressed_v_norm, grid),
        enable_gqa=True,
    )
    gate = torch.sigmoid(module.gate(x)).transpose(1, 2).unsqueeze(-1)
    expected = gate * masked_attention(q, k, v, BLOCKS, RADIUS) + (1 - gate) * global_output

    with torch.set_grad_enabled(gradient):
        actual = module.attend(x, grid, cos_sin, AttentionForms(torch.float32, grouped, local, grouped))
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=0)
    assert actual.requires_grad == gradient
