"""Tests blockwise neighborhood attention against a masked reference, including uneven blocks and grouped heads."""

from typing import get_args

import pytest
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import flex_attention

from pocketdit.backbones.forms import GroupedForm
from pocketdit.backbones.grouped import grouped_attention
from pocketdit.backbones.neighborhood import (
    block_edges,
    block_of_token,
    flex_block_mask,
    masked_attention,
    neighborhood_attention,
    neighborhood_mask,
)


def qkv(tokens: int, heads: int = 6, groups: int = 2, channels: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(tokens)
    q, k, v = (torch.randn(2, count, tokens, channels, generator=generator) for count in (heads, groups, groups))
    return q, k, v


def looped_attention(
    q: Tensor, k: Tensor, v: Tensor, blocks: int, radius: int, block_form: GroupedForm = "shared"
) -> Tensor:
    return neighborhood_attention(q, k, v, blocks, radius, "looped", block_form)


@pytest.mark.parametrize("tokens", [1, 7, 16, 60, 61, 64, 97, 256])
@pytest.mark.parametrize("blocks", [1, 2, 4, 5, 16])
@pytest.mark.parametrize("radius", [0, 1, 2, 7])
@pytest.mark.parametrize("block_form", get_args(GroupedForm))
def test_looped_attention_equals_masked_reference(
    tokens: int, blocks: int, radius: int, block_form: GroupedForm
) -> None:
    q, k, v = qkv(tokens)
    torch.testing.assert_close(
        looped_attention(q, k, v, blocks, radius, block_form),
        masked_attention(q, k, v, blocks, radius),
        atol=1e-5,
        rtol=0,
    )


@pytest.mark.parametrize(("tokens", "blocks", "radius"), [(64, 4, 1), (60, 7, 2)])
def test_flex_attention_equals_masked_reference(tokens: int, blocks: int, radius: int) -> None:
    """FlexAttention is not compiled here, because torch cannot compile it on every CPU."""
    q, k, v = qkv(tokens, heads=4, groups=2, channels=16)
    mask = flex_block_mask(tokens, blocks, radius, q.device)
    output = flex_attention(q, k, v, block_mask=mask, enable_gqa=True)
    torch.testing.assert_close(output, masked_attention(q, k, v, blocks, radius), atol=1e-5, rtol=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="requires a GPU")
@pytest.mark.parametrize(("tokens", "blocks", "radius"), [(256, 4, 1), (1024, 16, 1)])
def test_compiled_flex_attention_equals_masked_reference(tokens: int, blocks: int, radius: int) -> None:
    q, k, v = (part.cuda() for part in qkv(tokens, heads=4, groups=2, channels=32))
    output = neighborhood_attention(q, k, v, blocks, radius, "flex")
    torch.testing.assert_close(output, masked_attention(q, k, v, blocks, radius), atol=1e-5, rtol=0)


def test_gradients_of_looped_attention_equal_those_of_the_reference() -> None:
    q, k, v = (tensor.requires_grad_() for tensor in qkv(61))
    looped = torch.autograd.grad(looped_attention(q, k, v, 5, 1).square().sum(), (q, k, v))
    masked = torch.autograd.grad(masked_attention(q, k, v, 5, 1).square().sum(), (q, k, v))
    torch.testing.assert_close(looped, masked, atol=1e-5, rtol=1e-5)


def test_mask_in_the_configuration_of_the_paper() -> None:
    """With B = 16, r = 1, and 64x64 tokens, each block has four rows, and 46 of 256 block pairs (18.0%) are visible."""
    mask = neighborhood_mask(4096, 16, 1, torch.device("cpu"))
    assert mask.float().mean().item() == pytest.approx(46 / 256)
    assert block_edges(4096, 16)[:3] == [0, 256, 512]
    assert mask[0, :512].all()
    assert not mask[0, 512:].any()


def test_block_sizes_differ_by_at_most_one_and_cover_all_tokens() -> None:
    for tokens in range(1, 40):
        for blocks in range(1, 45):
            sizes = torch.tensor(block_edges(tokens, blocks)).diff()
            assert sizes.sum() == tokens
            assert sizes.max() - sizes.min() <= 1
            assert sizes.min() >= 1
            assert len(block_of_token(tokens, blocks)) == tokens


def test_radius_that_covers_all_blocks_is_full_attention() -> None:
    q, k, v = qkv(60)
    full = grouped_attention(q, k, v, "shared")
    torch.testing.assert_close(looped_attention(q, k, v, blocks=4, radius=3), full, atol=1e-5, rtol=0)


def test_token_outside_the_neighborhood_has_no_influence() -> None:
    q, k, v = qkv(64)
    changed = v.clone()
    changed[:, :, 48:] += 100.0
    before, after = looped_attention(q, k, v, 4, 1), looped_attention(q, k, changed, 4, 1)
    assert torch.equal(before[:, :, :32], after[:, :, :32])
    assert not torch.allclose(before[:, :, 32:], after[:, :, 32:])
