"""ASSA against its formula, with a gradient and without: there the branches are mixed in place, piece by piece."""

import pytest
import torch
import torch.nn.functional as F

from pocketdit.backbones.attention import AdaptiveSparseSelfAttention
from pocketdit.backbones.neighborhood import LOOP_FROM_BLOCK_TOKENS, masked
from pocketdit.backbones.position import rotation
from pocketdit.backbones.spec import AdaptiveSparseAttention

HEAD_DIM, HEADS, BLOCKS, RADIUS = 8, 6, 3, 1


@pytest.mark.parametrize("gradient", [True, False])
@pytest.mark.parametrize("grid", [(2, 4), (8, 8), (10, 14)])  # the first in one masked piece, the others in a loop
def test_adaptive_sparse_attention_is_its_formula(grid: tuple[int, int], gradient: bool) -> None:
    torch.manual_seed(0)
    tokens, width = grid[0] * grid[1], HEADS * HEAD_DIM
    assert (tokens >= BLOCKS * LOOP_FROM_BLOCK_TOKENS) == (grid != (2, 4))
    module = AdaptiveSparseSelfAttention(width, HEAD_DIM, AdaptiveSparseAttention("assa", 2, BLOCKS, RADIUS))
    x = torch.randn(2, tokens, width)
    turn = rotation(*grid, HEAD_DIM, 100.0, torch.device("cpu"))

    q, k, v = module.project(x, turn)
    far = F.scaled_dot_product_attention(
        q,
        module.compress(k, module.compress_k, module.compressed_k_norm, grid),
        module.compress(v, module.compress_v, module.compressed_v_norm, grid),
        enable_gqa=True,
    )
    share = torch.sigmoid(module.gate(x)).transpose(1, 2).unsqueeze(-1)
    expected = share * masked(q, k, v, BLOCKS, RADIUS) + (1 - share) * far

    with torch.set_grad_enabled(gradient):
        mixed = module.attend(x, grid, turn)
    torch.testing.assert_close(mixed, expected, atol=1e-5, rtol=0)
    assert mixed.requires_grad == gradient
