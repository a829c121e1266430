"""Self-attention (full, blockwise, or ASSA), cross-attention, and feed-forward layers that can be sliced in width.

Shape letters: B = batch, N = image tokens, L = text tokens, D = hidden size, H = query heads, G = key/value heads,
E = channels per head. G and E are the same at every width, and H = D / E.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import assert_never

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from pocketdit.backbones.elastic import ElasticLinear, WindowMerge
from pocketdit.backbones.forms import (
    AttentionForms,
    Chooser,
    Workload,
    choose_dtype,
    choose_grouped,
    choose_local,
)
from pocketdit.backbones.grouped import grouped_attention
from pocketdit.backbones.neighborhood import attend_in_pieces, join_blocks, neighborhood_attention
from pocketdit.backbones.position import RotaryEmbedding
from pocketdit.backbones.spec import AdaptiveSparseAttention, AttentionSpec, FullAttention

Grid = tuple[int, int]
"""Height and width of the token grid. Tokens are in raster order, and N = height * width."""
CosSin = tuple[Tensor, Tensor]
"""Cosine and sine of the RoPE angles, each (N, E/2), as returned by ``axial_rope``."""


def split_heads(x: Tensor, head_dim: int, groups: int = 1) -> Tensor:
    """Reshape (B, N, H * E) to (B, H, N, E).

    Args:
        x: Channels of all heads.
        head_dim: Channels per head E.
        groups: If greater than 1, sort the heads by their index modulo this number, so that heads with the same
            remainder become adjacent.
    """
    if groups == 1:
        return torch.unflatten(x, -1, (-1, head_dim)).transpose(1, 2)
    return torch.unflatten(x, -1, (-1, groups, head_dim)).permute(0, 3, 2, 1, 4).flatten(1, 2)


def merge_heads(x: Tensor, groups: int = 1) -> Tensor:
    """Reshape (B, H, N, E) to (B, N, H * E). This is the inverse of ``split_heads`` for the same ``groups``."""
    if groups == 1:
        return x.transpose(1, 2).flatten(2)
    return torch.unflatten(x, 1, (groups, -1)).permute(0, 3, 2, 1, 4).flatten(2)


def attention_workload(x: Tensor, head_dim: int, kv_heads: int, keys: int) -> Workload:
    """Return the workload of attention from x (B, N, D) to ``keys`` tokens, in the dtype that autocast selects."""
    kind = x.device.type
    has_autocast = kind != "meta" and torch.is_autocast_enabled(kind)
    dtype = torch.get_autocast_dtype(kind) if has_autocast else x.dtype
    batch, tokens, hidden = x.shape
    return Workload(
        x.device, dtype, torch.is_grad_enabled(), batch, hidden // head_dim, kv_heads, tokens, keys, head_dim
    )


def interpolate_branches(global_BHNE: Tensor, local_pieces: Iterable[tuple[slice, Tensor]], gate: Tensor) -> Tensor:
    """Linearly interpolate between the global and local branches of ASSA.

    When gradients are disabled, the result overwrites ``global_BHNE``. Each piece is interpolated while it is still in
    the cache, and no memory is allocated. When gradients are enabled, the backward pass of each slice of
    ``global_BHNE`` would allocate a tensor of the full size, so the pieces are joined first. The gate is repeated for
    every channel, because on a CPU, interpolating in bf16 with a broadcast gate takes several times as long.

    Args:
        global_BHNE: Output of the global branch.
        local_pieces: Token slices, each with the local branch's output for it, as yielded by ``attend_in_pieces``.
        gate: Weight of the local branch in [0, 1], (B, H, N, 1).

    Returns:
        Interpolated output (B, H, N, E).
    """
    if torch.is_grad_enabled():
        gates = gate.transpose(1, 2).expand(-1, -1, -1, global_BHNE.shape[-1]).contiguous().transpose(1, 2)
        return torch.lerp(global_BHNE, join_blocks(local for _, local in local_pieces), gates)
    for tokens, local in local_pieces:
        global_BHNE[:, :, tokens].lerp_(local, gate[:, :, tokens])
    return global_BHNE


class SelfAttention(nn.Module):
    """Grouped-query attention over all tokens.

    Queries and keys are normalized per head with LayerNorm and then rotated with RoPE (paper Fig. 2).

    Args:
        width: Hidden size of the full network.
        head_dim: Channels per head.
        kv_heads: Number of key/value heads.

    Attributes:
        interleaved: Whether query head h uses key/value head h mod G instead of h // (H / G). The transformer block
            sets this attribute.
    """

    interleaved = False

    def __init__(self, width: int, head_dim: int, kv_heads: int) -> None:
        super().__init__()
        self.head_dim, self.kv_heads = head_dim, kv_heads
        self.q = ElasticLinear(width, width)
        self.kv = ElasticLinear(width, 2 * kv_heads * head_dim)
        self.q_norm = nn.LayerNorm(head_dim)
        self.k_norm = nn.LayerNorm(head_dim)
        self.rope = RotaryEmbedding()
        self.out = ElasticLinear(width, width)

    def init_locality(self) -> None:
        """Give all queries and keys a common component, which RoPE turns into a preference for nearby tokens.

        When x_t is mostly noise, its content says little about which tokens to attend to. Without this bias, a new
        network must first learn that neighboring tokens are related.
        """
        nn.init.ones_(self.q_norm.bias)
        nn.init.ones_(self.k_norm.bias)

    def split_queries(self, x: Tensor, channels: int) -> Tensor:
        """Reshape (B, N, H * channels) to (B, H, N, channels). Heads that share a key/value head become adjacent."""
        return split_heads(x, channels, self.kv_heads if self.interleaved else 1)

    def project(self, x: Tensor, cos_sin: CosSin) -> tuple[Tensor, Tensor, Tensor]:
        """Project x (B, N, D) to q (B, H, N, E) and k and v (B, G, N, E), with RoPE applied to q and k."""
        q = self.split_queries(self.q(x, out_features=x.shape[-1]), self.head_dim)
        k, v = (split_heads(part, self.head_dim) for part in self.kv(x).chunk(2, dim=-1))
        return self.rope(self.q_norm(q), *cos_sin), self.rope(self.k_norm(k), *cos_sin), v

    def workload(self, x: Tensor) -> Workload:
        """Return the workload of attention between all tokens of x (B, N, D)."""
        return attention_workload(x, self.head_dim, self.kv_heads, x.shape[1])

    def choose_forms(self, x: Tensor, choose: Chooser) -> AttentionForms:
        """Choose the forms (implementations) of attention for inputs like x (B, N, D)."""
        workload = choose_dtype(choose, self.workload(x))
        return AttentionForms(workload.dtype, choose_grouped(choose, workload))

    def attend(self, x: Tensor, grid: Grid, cos_sin: CosSin, forms: AttentionForms) -> Tensor:
        """Compute the attention output (B, H, N, E) of x (B, N, D), before the output projection."""
        q, k, v = (part.to(forms.dtype) for part in self.project(x, cos_sin))
        return grouped_attention(q, k, v, forms.grouped)

    def forward(self, x: Tensor, grid: Grid, cos_sin: CosSin, forms: AttentionForms) -> Tensor:
        """Map x (B, N, D) to (B, N, D)."""
        attended = self.attend(x, grid, cos_sin, forms)
        merged = merge_heads(attended, self.kv_heads if self.interleaved else 1).to(x.dtype)
        output: Tensor = self.out(merged, out_features=x.shape[-1])
        return output


class BlockwiseSelfAttention(SelfAttention):
    """Only the local branch of ASSA: each block attends to itself and to the blocks around it (Eq. 2 and 3)."""

    def __init__(self, width: int, head_dim: int, spec: AdaptiveSparseAttention) -> None:
        super().__init__(width, head_dim, spec.kv_heads)
        self.blocks, self.radius = spec.blocks, spec.radius

    @override
    def choose_forms(self, x: Tensor, choose: Chooser) -> AttentionForms:
        workload = choose_dtype(choose, replace(self.workload(x), blocks=self.blocks, radius=self.radius))
        return AttentionForms(workload.dtype, "shared", *choose_local(choose, workload))

    @override
    def attend(self, x: Tensor, grid: Grid, cos_sin: CosSin, forms: AttentionForms) -> Tensor:
        q, k, v = (part.to(forms.dtype) for part in self.project(x, cos_sin))
        return neighborhood_attention(q, k, v, self.blocks, self.radius, forms.local, forms.block)


class AdaptiveSparseSelfAttention(SelfAttention):
    """ASSA (paper Sec. 3.1 C): global and local branches, interpolated with a learned weight per head and token.

    The global branch attends to 2x2-compressed keys and values (Eq. 1). The local branch is blockwise neighborhood
    attention (Eq. 2 and 3).
    """

    def __init__(self, width: int, head_dim: int, spec: AdaptiveSparseAttention) -> None:
        super().__init__(width, head_dim, spec.kv_heads)
        self.blocks, self.radius = spec.blocks, spec.radius
        channels = spec.kv_heads * head_dim
        self.compress_k = WindowMerge(channels)
        self.compress_v = WindowMerge(channels)
        self.compressed_k_norm = nn.LayerNorm(head_dim)
        self.compressed_v_norm = nn.LayerNorm(head_dim)
        self.gate = ElasticLinear(width, width // head_dim)

    def init_branches(self) -> None:
        """Initialize the compression to a 2x2 mean and the gate to 1/2 everywhere."""
        for convolution in (self.compress_k, self.compress_v):
            nn.init.dirac_(convolution.weight)
            with torch.no_grad():
                convolution.weight.copy_(convolution.weight.sum((2, 3), keepdim=True).expand_as(convolution.weight) / 4)
            assert convolution.bias is not None
            nn.init.zeros_(convolution.bias)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)

    def compress(self, x_BGNE: Tensor, merge: WindowMerge, norm: nn.LayerNorm, grid: Grid) -> Tensor:
        """Compress keys or values 2x2 (Eq. 1), from (B, G, N, E) to (B, G, N/4, E)."""
        feature_map = torch.unflatten(merge_heads(x_BGNE), 1, grid)
        compressed = merge(feature_map).flatten(1, 2)
        normalized: Tensor = norm(split_heads(compressed, self.head_dim))
        return normalized

    @override
    def choose_forms(self, x: Tensor, choose: Chooser) -> AttentionForms:
        workload = choose_dtype(choose, replace(self.workload(x), keys=x.shape[1] // 4))
        local = replace(workload, keys=x.shape[1], blocks=self.blocks, radius=self.radius)
        return AttentionForms(workload.dtype, choose_grouped(choose, workload), *choose_local(choose, local))

    @override
    def attend(self, x: Tensor, grid: Grid, cos_sin: CosSin, forms: AttentionForms) -> Tensor:
        q, k, v = self.project(x, cos_sin)
        compressed_k = self.compress(k, self.compress_k, self.compressed_k_norm, grid)
        compressed_v = self.compress(v, self.compress_v, self.compressed_v_norm, grid)
        gate = self.split_queries(torch.sigmoid(self.gate(x, out_features=q.shape[1])), channels=1)
        q, k, v, compressed_k, compressed_v, gate = (
            part.to(forms.dtype) for part in (q, k, v, compressed_k, compressed_v, gate)
        )
        global_output = grouped_attention(q, compressed_k, compressed_v, forms.grouped)
        local_pieces = attend_in_pieces(q, k, v, self.blocks, self.radius, forms.local, forms.block)
        return interpolate_branches(global_output, local_pieces, gate)


class CrossAttention(nn.Module):
    """Attention from image tokens to text tokens.

    The key and value projections do not depend on the width and are never sliced (paper Sec. 3.2).

    Args:
        width: Hidden size of the full network.
        head_dim: Channels per head.
        text_width: Width of the text tokens.
        kv_heads: Number of key/value heads.

    Attributes:
        interleaved: See ``SelfAttention``.
    """

    interleaved = False

    def __init__(self, width: int, head_dim: int, text_width: int, kv_heads: int) -> None:
        super().__init__()
        self.head_dim, self.kv_heads = head_dim, kv_heads
        self.q = ElasticLinear(width, width)
        self.kv = nn.Linear(text_width, 2 * kv_heads * head_dim)
        self.q_norm = nn.LayerNorm(head_dim)
        self.k_norm = nn.LayerNorm(head_dim)
        self.out = ElasticLinear(width, width)

    def choose_forms(self, x: Tensor, text: Tensor, choose: Chooser) -> AttentionForms:
        """Choose the forms (implementations) of attention for inputs like x (B, N, D) and text (B, L, text width).

        The length L is rounded up to a power of two, so that texts of similar lengths share one choice.
        """
        keys = 1 << (text.shape[1] - 1).bit_length()
        workload = replace(attention_workload(x, self.head_dim, self.kv_heads, keys), hidden_keys=True)
        workload = choose_dtype(choose, workload)
        return AttentionForms(workload.dtype, choose_grouped(choose, workload))

    def forward(self, x: Tensor, text: Tensor, mask: Tensor, forms: AttentionForms) -> Tensor:
        """Attend from image tokens to text tokens.

        Args:
            x: Image tokens (B, N, D).
            text: Text tokens (B, L, text width).
            mask: Mask (B, L), True where a text token is visible.
            forms: Forms of attention, as returned by ``choose_forms``.

        Returns:
            Image tokens (B, N, D).
        """
        groups = self.kv_heads if self.interleaved else 1
        q = self.q_norm(split_heads(self.q(x, out_features=x.shape[-1]), self.head_dim, groups))
        k, v = (split_heads(part, self.head_dim) for part in self.kv(text).chunk(2, dim=-1))
        q, k, v = (part.to(forms.dtype) for part in (q, self.k_norm(k), v))
        attended = grouped_attention(q, k, v, forms.grouped, mask[:, None, None, :])
        output: Tensor = self.out(merge_heads(attended, groups).to(x.dtype), out_features=x.shape[-1])
        return output


class FeedForward(nn.Module):
    """GELU MLP whose inner size is ``ratio`` times the hidden size of the input."""

    def __init__(self, width: int, ratio: float) -> None:
        super().__init__()
        self.ratio = ratio
        self.expand = ElasticLinear(width, round(width * ratio))
        self.contract = ElasticLinear(round(width * ratio), width)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, N, D) to (B, N, D)."""
        hidden = x.shape[-1]
        inner = F.gelu(self.expand(x, out_features=round(hidden * self.ratio)), approximate="tanh")
        output: Tensor = self.contract(inner, out_features=hidden)
        return output


def build_self_attention(width: int, head_dim: int, spec: AttentionSpec) -> SelfAttention:
    """Build the self-attention module described by a level's specification."""
    match spec:
        case FullAttention():
            return SelfAttention(width, head_dim, spec.kv_heads)
        case AdaptiveSparseAttention(compression=False):
            return BlockwiseSelfAttention(width, head_dim, spec)
        case AdaptiveSparseAttention():
            return AdaptiveSparseSelfAttention(width, head_dim, spec)
        case _:
            assert_never(spec)
