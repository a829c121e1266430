"""Self-attention, ASSA, cross-attention and FFN in the mobile form. Layers have the same names as in the training form.

Shape letters: B = batch, D = channels, H = query heads, G = key/value heads, E = channels per head, N = image tokens,
L = text tokens.
"""

from typing import Literal, assert_never

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from pocketdit.backbones.attention import Grid
from pocketdit.backbones.spec import AdaptiveSparseAttention, AttentionSpec, FullAttention
from pocketdit.mobile.layers import ChannelNorm, head_norm, pointwise, rotate
from pocketdit.mobile.split_einsum import (
    Heads,
    attention,
    batched_neighborhood,
    chunked_attention,
    looped_neighborhood,
    outside_bias,
)

Blockwise = Literal["loop", "batched"]
Rotation = tuple[Tensor, Tensor]


class MobileSelfAttention(nn.Module):
    """Grouped-query attention over all tokens.

    Args:
        width: Number of channels D.
        head_dim: Channels per head E.
        kv_heads: Number of key/value heads G.
        query_chunk: Number of queries to process at a time; 0 processes all of them at once.

    Attributes:
        heads: Size and grouping of the heads. The transformer block sets this attribute.
    """

    def __init__(self, width: int, head_dim: int, kv_heads: int, query_chunk: int) -> None:
        super().__init__()
        self.heads, self.query_chunk = Heads(head_dim), query_chunk
        self.q = pointwise(width, width)
        self.kv = pointwise(width, 2 * kv_heads * head_dim)
        self.q_norm, self.k_norm = head_norm(head_dim), head_norm(head_dim)
        self.out = pointwise(width, width)

    def split_heads(self, x: Tensor) -> Tensor:
        """Reshape (B, H * E, 1, N) to (B, H, E, N)."""
        return x.reshape(x.shape[0], -1, self.heads.channels, x.shape[3])

    def norm_and_rotate(self, x: Tensor, norm: ChannelNorm, rotation: Rotation) -> Tensor:
        """Apply the norm and RoPE to each head of x (B, H * E, 1, N)."""
        return rotate(norm(self.split_heads(x)), *rotation).reshape(x.shape)

    def project(self, x: Tensor, rotation: Rotation) -> tuple[Tensor, Tensor, Tensor]:
        """Project x (B, D, 1, N) to q (B, H * E, 1, N) and k and v (B, G * E, 1, N), with RoPE applied to q and k."""
        k, v = self.kv(x).chunk(2, dim=1)
        q = self.norm_and_rotate(self.q(x), self.q_norm, rotation)
        return q, self.norm_and_rotate(k, self.k_norm, rotation), v

    def attend(self, x: Tensor, rotation: Rotation) -> Tensor:
        """Compute the attention output (B, H * E, 1, N) of x (B, D, 1, N), before the output projection."""
        q, k, v = self.project(x, rotation)
        return chunked_attention(q, k.transpose(1, 3), v, self.heads, self.query_chunk)

    def forward(self, x: Tensor, rotation: Rotation) -> Tensor:
        """Map x (B, D, 1, N) to (B, D, 1, N)."""
        output: Tensor = self.out(self.attend(x, rotation))
        return output


class MobileSparseSelfAttention(MobileSelfAttention):
    """ASSA: attention to neighboring blocks, interpolated with attention to compressed keys.

    Args:
        width: Number of channels D.
        head_dim: Channels per head E.
        spec: Settings of the attention in the training form.
        grid: Height and width of the token grid.
        blockwise: Whether the local branch computes its blocks in a loop or as one batch.
        query_chunk: Number of queries that attend to the compressed keys at a time; 0 processes all of them at once.

    Raises:
        ValueError: ``blockwise`` is "batched", but the blocks differ in size.
    """

    outside: Tensor

    def __init__(
        self,
        width: int,
        head_dim: int,
        spec: AdaptiveSparseAttention,
        grid: Grid,
        blockwise: Blockwise,
        query_chunk: int,
    ) -> None:
        super().__init__(width, head_dim, spec.kv_heads, query_chunk)
        tokens = grid[0] * grid[1]
        if blockwise == "batched" and tokens % spec.blocks:
            raise ValueError(
                f"blockwise=batched requires blocks of equal size, but {tokens} tokens cannot be divided into "
                f"{spec.blocks} equal blocks; use blockwise=loop"
            )
        self.grid, self.blocks, self.radius, self.blockwise = grid, spec.blocks, spec.radius, blockwise
        self.compression = spec.compression
        if self.compression:
            channels = spec.kv_heads * head_dim
            self.compress_k = nn.Conv2d(channels, channels, kernel_size=2, stride=2)
            self.compress_v = nn.Conv2d(channels, channels, kernel_size=2, stride=2)
            self.compressed_k_norm, self.compressed_v_norm = head_norm(head_dim), head_norm(head_dim)
            self.gate = pointwise(width, width // head_dim)
        if blockwise == "batched":
            self.register_buffer("outside", outside_bias(tokens, spec.blocks, spec.radius), persistent=False)

    def compress(self, x: Tensor, convolution: nn.Conv2d, norm: ChannelNorm) -> Tensor:
        """Compress 2x2 tokens into one (Eq. 1): (B, G * E, 1, N) becomes (B, G * E, 1, N/4)."""
        compressed = convolution(x.reshape(*x.shape[:2], *self.grid)).flatten(2)[:, :, None]
        normalized: Tensor = norm(self.split_heads(compressed))
        return normalized.reshape(compressed.shape)

    def attend_locally(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Let each block attend to itself and its neighbors (Eq. 2 and 3)."""
        if self.blockwise == "batched":
            return batched_neighborhood(q, k, v, self.heads, self.outside, self.radius)
        return looped_neighborhood(q, k.transpose(1, 3), v, self.heads, self.blocks, self.radius)

    @override
    def attend(self, x: Tensor, rotation: Rotation) -> Tensor:
        q, k, v = self.project(x, rotation)
        if not self.compression:
            return self.attend_locally(q, k, v)
        local = self.split_heads(self.attend_locally(q, k, v))
        compressed_k = self.compress(k, self.compress_k, self.compressed_k_norm).transpose(1, 3)
        compressed_v = self.compress(v, self.compress_v, self.compressed_v_norm)
        far = self.split_heads(chunked_attention(q, compressed_k, compressed_v, self.heads, self.query_chunk))
        share = torch.sigmoid(self.gate(x)).reshape(x.shape[0], -1, 1, x.shape[3])
        return (far + share * (local - far)).reshape(q.shape)


class MobileCrossAttention(nn.Module):
    """Cross-attention from image tokens to text tokens. The text mask is added to the logits as a bias.

    Attributes:
        heads: Size and grouping of the heads. The transformer block sets this attribute.
    """

    def __init__(self, width: int, head_dim: int, text_width: int, kv_heads: int) -> None:
        super().__init__()
        self.heads = Heads(head_dim)
        self.q = pointwise(width, width)
        self.kv = pointwise(text_width, 2 * kv_heads * head_dim)
        self.q_norm, self.k_norm = head_norm(head_dim), head_norm(head_dim)
        self.out = pointwise(width, width)

    def norm_heads(self, x: Tensor, norm: ChannelNorm) -> Tensor:
        """Apply the norm to each head of x (B, H * E, 1, N)."""
        normalized: Tensor = norm(x.reshape(x.shape[0], -1, self.heads.channels, x.shape[3]))
        return normalized.reshape(x.shape)

    def forward(self, x: Tensor, text: Tensor, text_bias: Tensor) -> Tensor:
        """Map x (B, D, 1, N) to (B, D, 1, N), with text (B, text width, 1, L) and text_bias (B, L, 1, 1)."""
        k, v = self.kv(text).chunk(2, dim=1)
        q, k = self.norm_heads(self.q(x), self.q_norm), self.norm_heads(k, self.k_norm)
        output: Tensor = self.out(attention(q, k.transpose(1, 3), v, self.heads, text_bias))
        return output


class MobileFeedForward(nn.Module):
    """A GELU MLP that consists of 1x1 convolutions."""

    def __init__(self, width: int, ratio: float) -> None:
        super().__init__()
        self.expand = pointwise(width, round(width * ratio))
        self.contract = pointwise(round(width * ratio), width)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, D, 1, N) to (B, D, 1, N)."""
        output: Tensor = self.contract(F.gelu(self.expand(x), approximate="tanh"))
        return output


def build_self_attention(
    width: int,
    head_dim: int,
    spec: AttentionSpec,
    grid: Grid,
    blockwise: Blockwise,
    query_chunk: int,
) -> MobileSelfAttention:
    """Build the mobile form of a level's self-attention."""
    match spec:
        case FullAttention():
            return MobileSelfAttention(width, head_dim, spec.kv_heads, query_chunk)
        case AdaptiveSparseAttention():
            return MobileSparseSelfAttention(width, head_dim, spec, grid, blockwise, query_chunk)
        case _:
            assert_never(spec)
