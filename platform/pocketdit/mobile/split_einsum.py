"""Attention head by head in two einsums (paper supplement C; Apple, "Deploying Transformers on the Neural Engine").

Shape letters: B batch, H query heads, G key/value heads (H is a multiple of G), E channels of a head, h an axis that
is either 1 or counts blocks of tokens which attend side by side, N queries and M keys of each.
Queries are (B, H E, h, N), keys (B, M, h, G E), values (B, G E, h, M); the softmax runs over axis 1.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from pocketdit.backbones.neighborhood import block_edges

HIDDEN = -1e4
"""Added to the logits of keys that are not to be seen: fp16 holds it, and its exponential is zero."""


def one_head(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    """q (B, E, h, N), k (B, M, h, E), v (B, E, h, M), bias broadcasts to (B, M, h, N) -> (B, E, h, N).

    The softmax scale is in q already (in the weights of its norm).
    """
    logits = torch.einsum("bchq,bkhc->bkhq", q, k)
    if bias is not None:
        logits = logits + bias
    return torch.einsum("bkhq,bchk->bchq", logits.softmax(dim=1), v)


def attention(q: Tensor, k: Tensor, v: Tensor, head_dim: int, bias: Tensor | None = None) -> Tensor:
    """All heads, those of a group on the same keys: (B, H E, h, N)."""
    queries, keys, values = q.split(head_dim, 1), k.split(head_dim, 3), v.split(head_dim, 1)
    sharing = len(queries) // len(keys)
    heads = [one_head(query, keys[i // sharing], values[i // sharing], bias) for i, query in enumerate(queries)]
    return torch.cat(heads, dim=1)


def in_chunks(q: Tensor, k: Tensor, v: Tensor, head_dim: int, chunk: int) -> Tensor:
    """The same, at most ``chunk`` queries at a time (0: all), which bounds the largest tensor."""
    if not 0 < chunk < q.shape[3]:
        return attention(q, k, v, head_dim)
    return torch.cat([attention(part, k, v, head_dim) for part in q.split(chunk, 3)], dim=3)


def looped(q: Tensor, k: Tensor, v: Tensor, head_dim: int, blocks: int, radius: int) -> Tensor:
    """Blockwise neighborhood attention (Eq. 2 and 3), a block of queries at a time; blocks may differ in size."""
    edges = block_edges(q.shape[3], blocks)
    last = len(edges) - 1
    parts = []
    for block in range(last):
        start, end = edges[max(block - radius, 0)], edges[min(block + radius + 1, last)]
        queries = q[:, :, :, edges[block] : edges[block + 1]]
        parts.append(attention(queries, k[:, start:end], v[:, :, :, start:end], head_dim))
    return torch.cat(parts, dim=3)


def neighborhoods(x: Tensor, blocks: int, radius: int) -> Tensor:
    """x (B, C, 1, N) -> every block with its neighbours, (B, C, blocks, (2 radius + 1) N / blocks), zeros beyond."""
    apart = F.pad(x.reshape(x.shape[0], x.shape[1], blocks, -1), (0, 0, radius, radius))
    return torch.cat([apart[:, :, i : i + blocks] for i in range(2 * radius + 1)], dim=3)


def beyond(tokens: int, blocks: int, radius: int) -> Tensor:
    """(1, (2 radius + 1) tokens / blocks, blocks, 1): ``HIDDEN`` where a neighbour lies outside the picture."""
    neighbour = torch.arange(-radius, radius + 1, device="cpu")[:, None] + torch.arange(blocks, device="cpu")
    outside = torch.where((neighbour < 0) | (neighbour >= blocks), HIDDEN, 0.0)
    return outside.repeat_interleave(tokens // blocks, dim=0)[None, :, :, None]


def batched(q: Tensor, k: Tensor, v: Tensor, head_dim: int, outside: Tensor, radius: int) -> Tensor:
    """The same for all blocks side by side: q (B, H E, 1, N), k and v (B, G E, 1, N), ``outside`` from ``beyond``.

    Two einsums a head instead of two a head and block, and a third more work at the ends of the picture.
    """
    blocks = outside.shape[2]
    queries = q.reshape(q.shape[0], q.shape[1], blocks, -1)
    keys = neighborhoods(k, blocks, radius).transpose(1, 3)
    return attention(queries, keys, neighborhoods(v, blocks, radius), head_dim, outside).reshape(q.shape)
