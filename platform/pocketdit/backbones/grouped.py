"""Grouped-query softmax attention in several forms, which compute the same function at different speeds.

Shape letters: B = batch, H = query heads, G = key/value heads (H is a multiple of G), N = query tokens, M = key tokens,
E = channels per head.
"""

from typing import assert_never

import torch
import torch.nn.functional as F
from torch import Tensor

from pocketdit.backbones.forms import GroupedForm


def grouped_attention(q: Tensor, k: Tensor, v: Tensor, form: GroupedForm, mask: Tensor | None = None) -> Tensor:
    """Compute grouped-query softmax attention. On a CPU, the inputs' dtype is used even under autocast.

    Args:
        q: Queries (B, H, N, E).
        k: Keys (B, G, M, E).
        v: Values (B, G, M, E).
        form: How query heads share a key head.
        mask: Mask that can be broadcast to (B, 1, N, M), True where a key is visible. "folded" requires a mask that is
            the same for all queries.

    Returns:
        Attention output (B, H, N, E).
    """
    if q.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        with torch.autocast("cpu", enabled=False):
            return grouped_attention(q, k, v, form, mask)
    repeat = q.shape[1] // k.shape[1]
    if repeat == 1:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    match form:
        case "shared":
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
        case "folded":
            return fold_queries(q, k, v, mask)
        case "repeated":
            k, v = k.repeat_interleave(repeat, dim=1), v.repeat_interleave(repeat, dim=1)
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        case _:
            assert_never(form)


def fold_queries(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Concatenate the query heads that share a key head along the token axis, and run attention once per key head.

    This makes the matrix products larger. In memory, the result is laid out as (B, N, H, E), which is what the output
    projection needs.
    """
    batch, heads, tokens, channels = q.shape
    groups = k.shape[1]
    repeat = heads // groups
    queries = q.reshape(batch, groups, repeat * tokens, channels)
    folded = F.scaled_dot_product_attention(queries, k, v, attn_mask=mask)
    return torch.unflatten(folded, 2, (repeat, tokens)).permute(0, 3, 1, 2, 4).flatten(2, 3).transpose(1, 2)
