"""Blockwise neighborhood attention (paper Eq. 2 and 3): each block of tokens attends to the blocks around it.

Shape letters: B = batch, H = query heads, G = key/value heads (H is a multiple of G), N = tokens, E = channels per
head.

Attention functions take q (B, H, N, E), k (B, G, N, E), and v (B, G, N, E) and return a tensor (B, H, N, E). In memory,
the result is laid out as (B, N, H, E), which is what the output projection needs. ``blocks`` is B in Eq. 2, and
``radius`` is r in Eq. 3.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention


def block_edges(tokens: int, blocks: int) -> list[int]:
    """Divide the tokens into blocks whose sizes differ by at most one, larger blocks first.

    If there are more blocks than tokens, the number of blocks is reduced to the number of tokens.

    Returns:
        The index of each block's first token, followed by ``tokens``.
    """
    blocks = min(blocks, tokens)
    size, larger = divmod(tokens, blocks)
    return [index * size + min(index, larger) for index in range(blocks + 1)]


def block_of_token(tokens: int, blocks: int) -> Tensor:
    """Return the index (N,) of the block that each token belongs to."""
    edges = torch.tensor(block_edges(tokens, blocks))
    return torch.repeat_interleave(torch.arange(len(edges) - 1), edges.diff(), output_size=tokens)


@lru_cache(maxsize=64)
def neighborhood_mask(tokens: int, blocks: int, radius: int, device: torch.device) -> Tensor:
    """Return a mask (N, N) that is True where the blocks of query i and key j are at most ``radius`` apart."""
    with torch.inference_mode(False):
        block = block_of_token(tokens, blocks).to(device)
        return (block[:, None] - block[None, :]).abs() <= radius


def softmax_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Run ``scaled_dot_product_attention``, using fp32 for bf16 inputs on a CPU.

    The backward pass of PyTorch's CPU kernel is ten times slower in bf16.
    """
    if q.device.type == "cpu" and q.dtype is torch.bfloat16:
        with torch.autocast("cpu", enabled=False):
            return F.scaled_dot_product_attention(q.float(), k.float(), v.float(), attn_mask=mask).to(q.dtype)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def grouped_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Compute softmax attention with grouped queries.

    If all queries see the same keys, the query heads that share a key head are concatenated along the token axis. This
    gives the same result with larger matrix products and without repeating the keys.

    Args:
        q: Queries (B, H, N, E).
        k: Keys (B, G, M, E) of M tokens.
        v: Values (B, G, M, E).
        mask: Mask that can be broadcast to (B, 1, N, M), True where a key is visible.

    Returns:
        Attention output (B, H, N, E).
    """
    batch, heads, tokens, channels = q.shape
    groups = k.shape[1]
    if groups == heads:
        return softmax_attention(q, k, v, mask)
    repeat = heads // groups
    if mask is None or mask.shape[-2] == 1:
        folded = softmax_attention(q.reshape(batch, groups, repeat * tokens, channels), k, v, mask)
        return torch.unflatten(folded, 2, (repeat, tokens)).permute(0, 3, 1, 2, 4).flatten(2, 3).transpose(1, 2)
    return softmax_attention(q, k.repeat_interleave(repeat, dim=1), v.repeat_interleave(repeat, dim=1), mask)


def masked_attention(q: Tensor, k: Tensor, v: Tensor, blocks: int, radius: int) -> Tensor:
    """Compute full attention with the neighborhood mask. This is the reference implementation."""
    return grouped_attention(q, k, v, neighborhood_mask(q.shape[2], blocks, radius, q.device))


def attend_by_block(q: Tensor, k: Tensor, v: Tensor, blocks: int, radius: int) -> Iterator[tuple[slice, Tensor]]:
    """Run dense attention for each block, on slices of q, k, and v.

    This requires neither a mask nor copies of the neighborhoods, and the block sizes can differ.

    Yields:
        The slice of a block's tokens, and their attention output (B, H, tokens in the block, E).
    """
    edges = block_edges(q.shape[2], blocks)
    last = len(edges) - 1
    for block in range(last):
        tokens = slice(edges[block], edges[block + 1])
        neighborhood = slice(edges[max(block - radius, 0)], edges[min(block + radius + 1, last)])
        yield tokens, grouped_attention(q[:, :, tokens], k[:, :, neighborhood], v[:, :, neighborhood])


def looped_attention(q: Tensor, k: Tensor, v: Tensor, blocks: int, radius: int) -> Tensor:
    """Run ``attend_by_block`` and join the blocks into one tensor."""
    return join_blocks(output for _, output in attend_by_block(q, k, v, blocks, radius))


def join_blocks(blocks: Iterable[Tensor]) -> Tensor:
    """Concatenate the outputs (B, H, tokens in the block, E) of all blocks into one tensor (B, H, N, E)."""
    return torch.cat([block.transpose(1, 2) for block in blocks], dim=1).transpose(1, 2)


@lru_cache(maxsize=64)
def flex_block_mask(tokens: int, blocks: int, radius: int, device: torch.device) -> BlockMask:
    """Build the neighborhood mask for FlexAttention."""
    block = block_of_token(tokens, blocks).to(device)

    def visible(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (block[query] - block[key]).abs() <= radius

    return create_block_mask(visible, None, None, tokens, tokens, device=str(device))


def flex_neighborhood_attention(q: Tensor, k: Tensor, v: Tensor, blocks: int, radius: int) -> Tensor:
    """Run PyTorch's FlexAttention with the neighborhood mask. Callers should compile this with ``torch.compile``."""
    mask = flex_block_mask(q.shape[2], blocks, radius, q.device)
    output = flex_attention(q, k, v, block_mask=mask, enable_gqa=True)
    assert isinstance(output, Tensor)  # it is a tuple only if auxiliary outputs are requested
    return output


# With fewer tokens per block, a single masked attention is faster than a loop over blocks (benchmarks/attention.py).
LOOP_FROM_BLOCK_TOKENS = 16


def attend_in_pieces(q: Tensor, k: Tensor, v: Tensor, blocks: int, radius: int) -> Iterator[tuple[slice, Tensor]]:
    """Run blockwise neighborhood attention with whichever implementation is faster for this number of tokens.

    Yields:
        Token slices and their attention outputs, as in ``attend_by_block``. A short sequence is a single piece.
    """
    tokens = q.shape[2]
    if tokens < blocks * LOOP_FROM_BLOCK_TOKENS:
        yield slice(0, tokens), masked_attention(q, k, v, blocks, radius)
    else:
        yield from attend_by_block(q, k, v, blocks, radius)


def neighborhood_attention(q: Tensor, k: Tensor, v: Tensor, blocks: int, radius: int) -> Tensor:
    """Run ``attend_in_pieces`` and join the pieces into one tensor."""
    return join_blocks(output for _, output in attend_in_pieces(q, k, v, blocks, radius))
