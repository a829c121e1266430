"""Attention as two einsums per head (paper supplement C; Apple, "Deploying Transformers on the Neural Engine").

Shape letters: B = batch, H = query heads, G = key/value heads (H is a multiple of G), E = channels per head, h = blocks
of tokens, each of which attends separately (1 without blocks), N = queries per block, M = keys per block.

Queries are (B, H * E, h, N), keys (B, M, h, G * E), and values (B, G * E, h, M). The softmax is over axis 1.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pocketdit.backbones.neighborhood import block_edges

HIDDEN = -1e4
"""Bias on the logits of masked keys. It can be represented in fp16, and its exponential underflows to zero."""


class Heads(NamedTuple):
    """The heads of an attention layer.

    Attributes:
        channels: Channels per head E.
        interleaved: Whether query head h uses key/value head h mod G instead of h // (H / G).
    """

    channels: int
    interleaved: bool = False


def attend_one_head(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    """Compute the attention of one head. The query norm has already multiplied q by the softmax scale.

    Args:
        q: Queries (B, E, h, N).
        k: Keys (B, M, h, E).
        v: Values (B, E, h, M).
        bias: Bias on the logits, which must broadcast to (B, M, h, N).

    Returns:
        Attention output (B, E, h, N).
    """
    logits = torch.einsum("bchq,bkhc->bkhq", q, k)
    if bias is not None:
        logits = logits + bias
    return torch.einsum("bkhq,bchk->bchq", logits.softmax(dim=1), v)


def attention(q: Tensor, k: Tensor, v: Tensor, heads: Heads, bias: Tensor | None = None) -> Tensor:
    """Compute the attention (B, H * E, h, N) of all heads. The query heads of a group share their keys and values."""
    size = heads.channels
    queries, keys, values = torch.split(q, size, 1), torch.split(k, size, 3), torch.split(v, size, 1)
    group = len(queries) // len(keys)
    shared = [i % len(keys) if heads.interleaved else i // group for i in range(len(queries))]
    outputs = [attend_one_head(query, keys[g], values[g], bias) for query, g in zip(queries, shared, strict=True)]
    return torch.cat(outputs, dim=1)


def chunked_attention(q: Tensor, k: Tensor, v: Tensor, heads: Heads, chunk: int) -> Tensor:
    """Compute ``attention`` for ``chunk`` queries at a time, which limits the size of the logits.

    If ``chunk`` is 0, all queries are processed at once.
    """
    if not 0 < chunk < q.shape[3]:
        return attention(q, k, v, heads)
    return torch.cat([attention(part, k, v, heads) for part in torch.split(q, chunk, 3)], dim=3)


def looped_neighborhood(q: Tensor, k: Tensor, v: Tensor, heads: Heads, blocks: int, radius: int) -> Tensor:
    """Compute blockwise neighborhood attention (Eq. 2 and 3) in a loop over blocks, which may differ in size."""
    edges = block_edges(q.shape[3], blocks)
    last = len(edges) - 1
    parts = []
    for block in range(last):
        start, end = edges[max(block - radius, 0)], edges[min(block + radius + 1, last)]
        queries = q[:, :, :, edges[block] : edges[block + 1]]
        parts.append(attention(queries, k[:, start:end], v[:, :, :, start:end], heads))
    return torch.cat(parts, dim=3)


def gather_neighborhoods(x: Tensor, blocks: int, radius: int) -> Tensor:
    """Gather the tokens of each block and its neighbors, with zeros for neighbors outside the image.

    Args:
        x: Tensor (B, C, 1, N).
        blocks: Number of blocks, a divisor of N.
        radius: Number of neighboring blocks on each side.

    Returns:
        Tensor (B, C, blocks, (2 * radius + 1) * N / blocks).
    """
    padded = F.pad(x.reshape(x.shape[0], x.shape[1], blocks, -1), (0, 0, radius, radius))
    return torch.cat([padded[:, :, i : i + blocks] for i in range(2 * radius + 1)], dim=3)


def outside_bias(tokens: int, blocks: int, radius: int) -> Tensor:
    """Return the bias that masks neighbors outside the image: ``HIDDEN`` for their tokens and 0 for all others.

    The shape is (1, (2 * radius + 1) * tokens / blocks, blocks, 1).
    """
    neighbor = torch.arange(-radius, radius + 1, device="cpu")[:, None] + torch.arange(blocks, device="cpu")
    outside = torch.where((neighbor < 0) | (neighbor >= blocks), HIDDEN, 0.0)
    return outside.repeat_interleave(tokens // blocks, dim=0)[None, :, :, None]


def batched_neighborhood(q: Tensor, k: Tensor, v: Tensor, heads: Heads, outside: Tensor, radius: int) -> Tensor:
    """Compute blockwise neighborhood attention for all blocks as one batch. All blocks must have the same size.

    This requires only two einsums per head, rather than two per head and block. The drawback is that the first and last
    blocks also compute the attention to neighbors outside the image, which is then masked.

    Args:
        q: Queries (B, H * E, 1, N).
        k: Keys (B, G * E, 1, N).
        v: Values (B, G * E, 1, N).
        heads: Size and groups of the heads.
        outside: Bias from ``outside_bias``.
        radius: Number of neighboring blocks on each side.

    Returns:
        Attention output (B, H * E, 1, N).
    """
    blocks = outside.shape[2]
    queries = q.reshape(q.shape[0], q.shape[1], blocks, -1)
    keys = gather_neighborhoods(k, blocks, radius).transpose(1, 3)
    return attention(queries, keys, gather_neighborhoods(v, blocks, radius), heads, outside).reshape(q.shape)
