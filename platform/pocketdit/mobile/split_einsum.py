"""Attention head by head as two einsums (paper supplement C; Apple, "Deploying Transformers on the Neural Engine").

Shape letters: B batch, H query heads, G key/value heads (H is a multiple of G), E channels per head, h blocks of tokens
that attend independently (or 1), N queries and M keys per block.
Queries are (B, H E, h, N), keys (B, M, h, G E), values (B, G E, h, M). The softmax is over axis 1.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from pocketdit.backbones.neighborhood import block_edges

HIDDEN = -1e4
"""Added to the logits of masked keys: representable in fp16, and its exponential is zero."""


def attend_one_head(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    """Attention of one head. q already contains the softmax scale, in the weights of its norm.

    Args:
        q: (B, E, h, N).
        k: (B, M, h, E).
        v: (B, E, h, M).
        bias: Added to the logits; broadcasts to (B, M, h, N).

    Returns:
        (B, E, h, N).
    """
    logits = torch.einsum("bchq,bkhc->bkhq", q, k)
    if bias is not None:
        logits = logits + bias
    return torch.einsum("bkhq,bchk->bchq", logits.softmax(dim=1), v)


def attention(q: Tensor, k: Tensor, v: Tensor, head_dim: int, bias: Tensor | None = None) -> Tensor:
    """Attention of all heads -> (B, H E, h, N). Query heads of one group share keys and values."""
    queries, keys, values = q.split(head_dim, 1), k.split(head_dim, 3), v.split(head_dim, 1)
    group = len(queries) // len(keys)
    heads = [attend_one_head(query, keys[i // group], values[i // group], bias) for i, query in enumerate(queries)]
    return torch.cat(heads, dim=1)


def chunked_attention(q: Tensor, k: Tensor, v: Tensor, head_dim: int, chunk: int) -> Tensor:
    """``attention`` for at most ``chunk`` queries at a time (0: all at once), which bounds the largest tensor."""
    if not 0 < chunk < q.shape[3]:
        return attention(q, k, v, head_dim)
    return torch.cat([attention(part, k, v, head_dim) for part in q.split(chunk, 3)], dim=3)


def looped_neighborhood(q: Tensor, k: Tensor, v: Tensor, head_dim: int, blocks: int, radius: int) -> Tensor:
    """Blockwise neighborhood attention (Eq. 2 and 3), one block of queries at a time. Blocks may differ in size."""
    edges = block_edges(q.shape[3], blocks)
    last = len(edges) - 1
    parts = []
    for block in range(last):
        start, end = edges[max(block - radius, 0)], edges[min(block + radius + 1, last)]
        queries = q[:, :, :, edges[block] : edges[block + 1]]
        parts.append(attention(queries, k[:, start:end], v[:, :, :, start:end], head_dim))
    return torch.cat(parts, dim=3)


def gather_neighborhoods(x: Tensor, blocks: int, radius: int) -> Tensor:
    """Place each block beside its neighbors, with zeros outside the image.

    x (B, C, 1, N) -> (B, C, blocks, (2 radius + 1) N / blocks).
    """
    padded = F.pad(x.reshape(x.shape[0], x.shape[1], blocks, -1), (0, 0, radius, radius))
    return torch.cat([padded[:, :, i : i + blocks] for i in range(2 * radius + 1)], dim=3)


def outside_bias(tokens: int, blocks: int, radius: int) -> Tensor:
    """(1, (2 radius + 1) tokens / blocks, blocks, 1): ``HIDDEN`` where a neighbor is outside the image, 0 elsewhere."""
    neighbor = torch.arange(-radius, radius + 1, device="cpu")[:, None] + torch.arange(blocks, device="cpu")
    outside = torch.where((neighbor < 0) | (neighbor >= blocks), HIDDEN, 0.0)
    return outside.repeat_interleave(tokens // blocks, dim=0)[None, :, :, None]


def batched_neighborhood(q: Tensor, k: Tensor, v: Tensor, head_dim: int, outside: Tensor, radius: int) -> Tensor:
    """Blockwise neighborhood attention of all blocks as one batch. Blocks must have equal sizes.

    This takes two einsums per head instead of two per head and block, but does a third more work at the image's ends.

    Args:
        q: (B, H E, 1, N).
        k: (B, G E, 1, N).
        v: (B, G E, 1, N).
        head_dim: Channels per head, E.
        outside: From ``outside_bias``.
        radius: Neighbors on each side.
    """
    blocks = outside.shape[2]
    queries = q.reshape(q.shape[0], q.shape[1], blocks, -1)
    keys = gather_neighborhoods(k, blocks, radius).transpose(1, 3)
    return attention(queries, keys, gather_neighborhoods(v, blocks, radius), head_dim, outside).reshape(q.shape)
