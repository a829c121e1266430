"""Self-attention (full or ASSA) and cross-attention, all sliceable in width.

Shape letters: B batch, N image tokens, L text tokens, D hidden size, H query heads, G key/value heads,
E channels of a head. The key/value heads are the same at every width; the query heads are D / E.
"""

from collections.abc import Iterable
from typing import assert_never

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pocketdit.backbones.elastic import ElasticLinear
from pocketdit.backbones.neighborhood import grouped_attention, join, neighborhood_attention, neighborhood_blocks
from pocketdit.backbones.position import rotate
from pocketdit.backbones.spec import AdaptiveSparseAttention, FullAttention

Grid = tuple[int, int]
Rotation = tuple[Tensor, Tensor]


def split_heads(x: Tensor, head_dim: int) -> Tensor:
    """(B, N, H * E) -> (B, H, N, E)."""
    return x.unflatten(-1, (-1, head_dim)).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """(B, H, N, E) -> (B, N, H * E)."""
    return x.transpose(1, 2).flatten(2)


def mix(everywhere: Tensor, around: Iterable[tuple[slice, Tensor]], share: Tensor) -> Tensor:
    """ASSA's interpolation. Without a gradient it takes the place of ``everywhere``, piece by piece.

    everywhere (B, H, N, E); around: tokens and what the local branch read for them; share (B, H, N, 1), the local
    branch's part. In place a piece is mixed while it is still in the cache, into memory that is already there; with a
    gradient, every slice of ``everywhere`` would cost a tensor of its whole size in the backward pass.
    """
    if torch.is_grad_enabled():
        return torch.lerp(everywhere, join(near for _, near in around), share)
    for tokens, near in around:
        everywhere[:, :, tokens].lerp_(near, share[:, :, tokens])
    return everywhere


class SelfAttention(nn.Module):
    """Grouped-query attention over all tokens. q and k pass a LayerNorm per head, then RoPE (paper Fig. 2)."""

    def __init__(self, width: int, head_dim: int, kv_heads: int) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.q = ElasticLinear(width, width)
        self.kv = ElasticLinear(width, 2 * kv_heads * head_dim)
        self.q_norm = nn.LayerNorm(head_dim)
        self.k_norm = nn.LayerNorm(head_dim)
        self.out = ElasticLinear(width, width)

    def start_local(self) -> None:
        """Give every query and key the same part, which RoPE turns into a preference for near tokens.

        Where x_t is mostly noise its content tells nothing about where to look; a new network would have to learn
        first that neighbours belong together.
        """
        nn.init.ones_(self.q_norm.bias)
        nn.init.ones_(self.k_norm.bias)

    def project(self, x: Tensor, rotation: Rotation) -> tuple[Tensor, Tensor, Tensor]:
        """x (B, N, D) -> q (B, H, N, E), k and v (B, G, N, E)."""
        q = split_heads(self.q(x, out_features=x.shape[-1]), self.head_dim)
        k, v = (split_heads(part, self.head_dim) for part in self.kv(x).chunk(2, dim=-1))
        return rotate(self.q_norm(q), *rotation), rotate(self.k_norm(k), *rotation), v

    def attend(self, x: Tensor, grid: Grid, rotation: Rotation) -> Tensor:
        return grouped_attention(*self.project(x, rotation))

    def forward(self, x: Tensor, grid: Grid, rotation: Rotation) -> Tensor:
        """x (B, N, D), N = grid height * grid width in raster order -> (B, N, D)."""
        return self.out(merge_heads(self.attend(x, grid, rotation)), out_features=x.shape[-1])


class BlockwiseSelfAttention(SelfAttention):
    """ASSA's local branch alone: every block sees the blocks around it (Eq. 2 and 3)."""

    def __init__(self, width: int, head_dim: int, spec: AdaptiveSparseAttention) -> None:
        super().__init__(width, head_dim, spec.kv_heads)
        self.blocks, self.radius = spec.blocks, spec.radius

    def attend(self, x: Tensor, grid: Grid, rotation: Rotation) -> Tensor:
        return neighborhood_attention(*self.project(x, rotation), self.blocks, self.radius)


class AdaptiveSparseSelfAttention(SelfAttention):
    """ASSA: a global branch on 2x2-compressed keys and values and a local one on blocks, mixed per head and token."""

    def __init__(self, width: int, head_dim: int, spec: AdaptiveSparseAttention) -> None:
        super().__init__(width, head_dim, spec.kv_heads)
        self.blocks, self.radius = spec.blocks, spec.radius
        channels = spec.kv_heads * head_dim
        self.compress_k = nn.Conv2d(channels, channels, kernel_size=2, stride=2)
        self.compress_v = nn.Conv2d(channels, channels, kernel_size=2, stride=2)
        self.compressed_k_norm = nn.LayerNorm(head_dim)
        self.compressed_v_norm = nn.LayerNorm(head_dim)
        self.gate = ElasticLinear(width, width // head_dim)

    def reset_branches(self) -> None:
        """Start the compression as the mean of its 2x2 tokens, and the gate half open."""
        for convolution in (self.compress_k, self.compress_v):
            nn.init.dirac_(convolution.weight)
            with torch.no_grad():
                convolution.weight.copy_(convolution.weight.sum((2, 3), keepdim=True).expand_as(convolution.weight) / 4)
            assert convolution.bias is not None
            nn.init.zeros_(convolution.bias)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)

    def compress(self, x_BGNE: Tensor, convolution: nn.Conv2d, norm: nn.LayerNorm, grid: Grid) -> Tensor:
        """Eq. 1: (B, G, N, E) -> (B, G, N/4, E). Channels last in memory, as the norm wants them."""
        feature_map = x_BGNE.transpose(1, 2).flatten(2).unflatten(1, grid).permute(0, 3, 1, 2)
        compressed = convolution(feature_map).permute(0, 2, 3, 1).flatten(1, 2)
        return norm(compressed.unflatten(-1, (-1, self.head_dim)).transpose(1, 2))

    def attend(self, x: Tensor, grid: Grid, rotation: Rotation) -> Tensor:
        q, k, v = self.project(x, rotation)
        everywhere = grouped_attention(
            q,
            self.compress(k, self.compress_k, self.compressed_k_norm, grid),
            self.compress(v, self.compress_v, self.compressed_v_norm, grid),
        )
        share = torch.sigmoid(self.gate(x, out_features=q.shape[1])).transpose(1, 2).unsqueeze(-1)
        around = neighborhood_blocks(q, k, v, self.blocks, self.radius)
        return mix(everywhere, around, share.to(everywhere.dtype))


class CrossAttention(nn.Module):
    """Image tokens read the text. Key and value projections do not depend on the width and are never sliced."""

    def __init__(self, width: int, head_dim: int, text_width: int, kv_heads: int) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.q = ElasticLinear(width, width)
        self.kv = nn.Linear(text_width, 2 * kv_heads * head_dim)
        self.q_norm = nn.LayerNorm(head_dim)
        self.k_norm = nn.LayerNorm(head_dim)
        self.out = ElasticLinear(width, width)

    def forward(self, x: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        """x (B, N, D), text (B, L, text width), mask (B, L) True = visible -> (B, N, D)."""
        q = self.q_norm(split_heads(self.q(x, out_features=x.shape[-1]), self.head_dim))
        k, v = (split_heads(part, self.head_dim) for part in self.kv(text).chunk(2, dim=-1))
        attended = grouped_attention(q, self.k_norm(k), v, mask[:, None, None, :])
        return self.out(merge_heads(attended), out_features=x.shape[-1])


class FeedForward(nn.Module):
    """GELU MLP whose inner size is a multiple of the hidden size in use."""

    def __init__(self, width: int, ratio: float) -> None:
        super().__init__()
        self.ratio = ratio
        self.expand = ElasticLinear(width, round(width * ratio))
        self.contract = ElasticLinear(round(width * ratio), width)

    def forward(self, x: Tensor) -> Tensor:
        hidden = x.shape[-1]
        inner = F.gelu(self.expand(x, out_features=round(hidden * self.ratio)), approximate="tanh")
        return self.contract(inner, out_features=hidden)


def build_self_attention(width: int, head_dim: int, spec: FullAttention | AdaptiveSparseAttention) -> SelfAttention:
    """The attention module that a level's description asks for."""
    match spec:
        case FullAttention():
            return SelfAttention(width, head_dim, spec.kv_heads)
        case AdaptiveSparseAttention(compression=False):
            return BlockwiseSelfAttention(width, head_dim, spec)
        case AdaptiveSparseAttention():
            return AdaptiveSparseSelfAttention(width, head_dim, spec)
        case _:
            assert_never(spec)
