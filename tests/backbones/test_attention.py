"""Tests ASSA against its formula, with and without gradients. Without gradients, it combines the branches in place."""

from typing import get_args

import pytest
import torch
import torch.nn.functional as F

from pocketdit.backbones.attention import AdaptiveSparseSelfAttention, SelfAttention, split_heads
from pocketdit.backbones.forms import AttentionForms, GroupedForm, LocalForm
from pocketdit.backbones.neighborhood import masked_attention
from pocketdit.backbones.position import apply_rope, axial_rope
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


@pytest.mark.parametrize("grouped", get_args(GroupedForm))
@pytest.mark.parametrize("heads", [6, 4])
def test_interleaved_query_heads_share_keys_by_their_index_modulo_the_groups(grouped: GroupedForm, heads: int) -> None:
    """A query head uses the same key and value head at every width, whatever the number of heads at that width."""
    torch.manual_seed(0)
    groups, tokens, grid = 2, 12, (3, 4)
    module = SelfAttention(HEADS * HEAD_DIM, HEAD_DIM, groups)
    module.interleaved = True
    x, cos_sin = torch.randn(2, tokens, heads * HEAD_DIM), axial_rope(*grid, HEAD_DIM, 100.0, torch.device("cpu"))
    q = apply_rope(module.q_norm(split_heads(module.q(x, out_features=x.shape[-1]), HEAD_DIM)), *cos_sin)
    _, k, v = module.project(x, cos_sin)
    outputs = []
    for head in range(heads):
        scores = q[:, head] @ k[:, head % groups].mT / HEAD_DIM**0.5
        outputs.append(scores.softmax(-1) @ v[:, head % groups])
    expected = module.out(torch.cat(outputs, dim=-1), out_features=x.shape[-1])
    actual = module(x, grid, cos_sin, AttentionForms(torch.float32, grouped))
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("local", ["looped", "masked"])
def test_interleaved_sparse_attention_is_adjacent_attention_with_sorted_heads(local: LocalForm) -> None:
    torch.manual_seed(0)
    width, grid = HEADS * HEAD_DIM, (6, 4)
    spec = AdaptiveSparseAttention("assa", 2, BLOCKS, RADIUS)
    interleaved, adjacent = (AdaptiveSparseSelfAttention(width, HEAD_DIM, spec) for _ in range(2))
    interleaved.interleaved = True
    order = torch.tensor([0, 2, 4, 1, 3, 5])  # heads sorted by their index modulo 2
    rows = (order[:, None] * HEAD_DIM + torch.arange(HEAD_DIM)).flatten()
    weights = interleaved.state_dict()
    for name, index in (("q", rows), ("gate", order)):
        weights |= {f"{name}.{part}": weights[f"{name}.{part}"][index] for part in ("weight", "bias")}
    adjacent.load_state_dict(weights | {"out.weight": weights["out.weight"][:, rows]})
    x, cos_sin = torch.randn(2, 24, width), axial_rope(*grid, HEAD_DIM, 100.0, torch.device("cpu"))
    forms = AttentionForms(torch.float32, "shared", local, "folded")
    expected, actual = (module(x, grid, cos_sin, forms) for module in (adjacent, interleaved))
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=0)
