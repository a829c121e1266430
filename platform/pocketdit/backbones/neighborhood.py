"""Blockwise neighborhood attention (Eqs. 2 and 3 of the paper): each block of tokens attends to the blocks around it.

Shape letters: B = batch, H = query heads, G = key/value heads (H is a multiple of G), N = tokens, E = channels per
head.

Attention functions take q (B, H, N, E), k (B, G, N, E), and v (B, G, N, E) and return a tensor (B, H, N, E). In memory,
the result is laid out as (B, N, H, E), which is what the output projection needs. ``blocks`` is B in Eq. 2, and
``radius`` is r in Eq. 3.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import assert_never

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from pocketdit.backbones.forms import GroupedForm, LocalForm
from pocketdit.backbones.grouped import grouped_attention


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
    """Return the block index (N,) of each token."""
    edges = torch.tensor(block_edges(tokens, blocks))
    return torch.repeat_interleave(torch.arange(len(edges) - 1), edges.diff(), output_size=tokens)


@lru_cache(maxsize=64)
def neighborhood_mask(tokens: int, blocks: int, radius: int, device: torch.device) -> Tensor:
    """Return a mask (N, N) that is True where the blocks of query i and key j are at most ``radius`` apart."""
    with torch.inference_mode(False):
        block = block_of_token(tokens, blocks).to(device)
        return (block[:, None] - block[None, :]).abs() <= radius


def masked_attention(q: Tensor, k: Tensor, v: Tensor, blocks: int, radius: int) -> Tensor:
    """Compute full attention with the neighborhood mask. This is the reference implementation."""
    # PyTorch's GPU kernels do not accept both a mask and shared keys.
    form: GroupedForm = "repeated" if q.device.type == "cuda" else "shared"
    return grouped_attention(q, k, v, form, neighborhood_mask(q.shape[2], blocks, radius, q.device))


def attend_by_block(
    q: Tensor, k: Tensor, v: Tensor, blocks: int, radius: int, form: GroupedForm
) -> Iterator[tuple[slice, Tensor]]:
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
        yield tokens, grouped_attention(q[:, :, tokens], k[:, :, neighborhood], v[:, :, neighborhood], form)


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


@lru_cache(maxsize=1)
def compiled_flex_attention() -> Callable[..., Tensor]:
    """Return FlexAttention, compiled for each shape. Without compilation, it would also compute masked scores."""
    compiled: Callable[..., Tensor] = torch.compile(flex_attention, dynamic=False)
    return compiled


def flex_neighborhood_attention(q: Tensor, k: Tensor, v: Tensor, blocks: int, radius: int) -> Tensor:
    """Run PyTorch's FlexAttention with the neighborhood mask."""
    mask = flex_block_mask(q.shape[2], blocks, radius, q.device)
    return compiled_flex_attention()(q, k, v, block_mask=mask, enable_gqa=True)


def attend_in_pieces(
    q: Tensor, k: Tensor, v: Tensor, blocks: int, radius: int, form: LocalForm, block_form: GroupedForm
) -> Iterator[tuple[slice, Tensor]]:
    """Run blockwise neighborhood attention.

    Args:
        q: Queries (B, H, N, E).
        k: Keys (B, G, N, E).
        v: Values (B, G, N, E).
        blocks: Number of blocks.
        radius: Neighborhood radius in blocks.
        form: How blocks attend to their neighborhood.
        block_form: How query heads share a key head in a loop over blocks.

    Yields:
        Token slices and their attention outputs, as in ``attend_by_block``. Without a loop, there is a single piece.
    """
    match form:
        case "looped":
            yield from attend_by_block(q, k, v, blocks, radius, block_form)
        case "masked":
            yield slice(0, q.shape[2]), masked_attention(q, k, v, blocks, radius)
        case "flex":
            yield slice(0, q.shape[2]), flex_neighborhood_attention(q, k, v, blocks, radius)
        case _:
            assert_never(form)


def neighborhood_attention(
    q: Tensor, k: Tensor, v: Tensor, blocks: int, radius: int, form: LocalForm, block_form: GroupedForm = "shared"
) -> Tensor:
    """Run ``attend_in_pieces`` and join the pieces into one tensor."""
    return join_blocks(output for _, output in attend_in_pieces(q, k, v, blocks, radius, form, block_form))
