"""Blockwise neighborhood attention (paper Eq. 2 and 3): each block of tokens sees the blocks around it.

Shape letters: B batch, H query heads, G key/value heads (H is a multiple of G), N tokens, E channels of a head.
All functions take q (B, H, N, E) and k, v (B, G, N, E) and give (B, H, N, E), in memory as (B, N, H, E): what the
projection after it wants.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention


def block_edges(tokens: int, blocks: int) -> list[int]:
    """Start of every block, and the end: ``blocks`` + 1 numbers. Sizes differ by at most one, larger ones first.

    More blocks than tokens leaves one token a block.
    """
    blocks = min(blocks, tokens)
    size, larger = divmod(tokens, blocks)
    return [index * size + min(index, larger) for index in range(blocks + 1)]


def block_of_token(tokens: int, blocks: int) -> Tensor:
    """Block number of every token, (N,)."""
    edges = torch.tensor(block_edges(tokens, blocks))
    return torch.repeat_interleave(torch.arange(len(edges) - 1), edges.diff(), output_size=tokens)


@lru_cache(maxsize=64)
def neighborhood_mask(tokens: int, blocks: int, radius: int, device: torch.device) -> Tensor:
    """(N, N), True where query i may see key j: their blocks are at most ``radius`` apart."""
    with torch.inference_mode(False):
        block = block_of_token(tokens, blocks).to(device)
        return (block[:, None] - block[None, :]).abs() <= radius


def softmax_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """``scaled_dot_product_attention``, on CPUs in fp32: its backward pass there takes ten times as long in bf16."""
    if q.device.type == "cpu" and q.dtype is torch.bfloat16:
        with torch.autocast("cpu", enabled=False):
            return F.scaled_dot_product_attention(q.float(), k.float(), v.float(), attn_mask=mask).to(q.dtype)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def grouped_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Softmax attention with grouped queries; the mask, where given, broadcasts to (B, 1, N, M), True = visible.

    Where all queries see the same keys, the heads that share a key are laid side by side as more queries of that
    key: the same sums, no repeated keys, and a larger matrix product.
    """
    batch, heads, tokens, channels = q.shape
    groups = k.shape[1]
    if groups == heads:
        return softmax_attention(q, k, v, mask)
    repeat = heads // groups
    if mask is None or mask.shape[-2] == 1:
        folded = softmax_attention(q.reshape(batch, groups, repeat * tokens, channels), k, v, mask)
        return folded.unflatten(2, (repeat, tokens)).permute(0, 3, 1, 2, 4).flatten(2, 3).transpose(1, 2)
    return softmax_attention(q, k.repeat_interleave(repeat, dim=1), v.repeat_interleave(repeat, dim=1), mask)


def masked(q: Tensor, k: Tensor, v: Tensor, blocks: int, radius: int) -> Tensor:
    """The reference: full attention under the neighborhood mask."""
    return grouped_attention(q, k, v, neighborhood_mask(q.shape[2], blocks, radius, q.device))


def by_block(q: Tensor, k: Tensor, v: Tensor, blocks: int, radius: int) -> Iterator[tuple[slice, Tensor]]:
    """One dense attention a block, on slices: no mask, no copy of a neighborhood, any ragged size.

    Yields the block's tokens and what they read, (B, H, tokens of the block, E).
    """
    edges = block_edges(q.shape[2], blocks)
    last = len(edges) - 1
    for block in range(last):
        tokens = slice(edges[block], edges[block + 1])
        near = slice(edges[max(block - radius, 0)], edges[min(block + radius + 1, last)])
        yield tokens, grouped_attention(q[:, :, tokens], k[:, :, near], v[:, :, near])


def looped(q: Tensor, k: Tensor, v: Tensor, blocks: int, radius: int) -> Tensor:
    """The loop over blocks as one tensor."""
    return join(attended for _, attended in by_block(q, k, v, blocks, radius))


def join(blocks: Iterable[Tensor]) -> Tensor:
    """(B, H, tokens of a block, E) of all blocks -> (B, H, N, E)."""
    return torch.cat([block.transpose(1, 2) for block in blocks], dim=1).transpose(1, 2)


@lru_cache(maxsize=64)
def flex_mask(tokens: int, blocks: int, radius: int, device: torch.device) -> BlockMask:
    """The neighborhood as FlexAttention's rule."""
    block = block_of_token(tokens, blocks).to(device)

    def visible(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (block[query] - block[key]).abs() <= radius

    return create_block_mask(visible, None, None, tokens, tokens, device=str(device))


def flex(q: Tensor, k: Tensor, v: Tensor, blocks: int, radius: int) -> Tensor:
    """PyTorch's FlexAttention with the same mask as a rule; compiled by the caller's ``torch.compile``."""
    mask = flex_mask(q.shape[2], blocks, radius, q.device)
    return flex_attention(q, k, v, block_mask=mask, enable_gqa=True)  # type: ignore[return-value]


# Below this many tokens a block one masked attention is faster than a loop over blocks (benchmarks/attention.py).
LOOP_FROM_BLOCK_TOKENS = 16


def neighborhood_blocks(q: Tensor, k: Tensor, v: Tensor, blocks: int, radius: int) -> Iterator[tuple[slice, Tensor]]:
    """Blockwise neighborhood attention by whichever form is faster at this size, in pieces as ``by_block`` gives."""
    tokens = q.shape[2]
    if tokens < blocks * LOOP_FROM_BLOCK_TOKENS:
        yield slice(0, tokens), masked(q, k, v, blocks, radius)
    else:
        yield from by_block(q, k, v, blocks, radius)


def neighborhood_attention(q: Tensor, k: Tensor, v: Tensor, blocks: int, radius: int) -> Tensor:
    """``neighborhood_blocks`` as one tensor."""
    return join(attended for _, attended in neighborhood_blocks(q, k, v, blocks, radius))
