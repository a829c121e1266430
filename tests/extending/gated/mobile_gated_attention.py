"""The mobile form of attention with a learned gate for every head."""

import torch
from torch import Tensor
from typing_extensions import override

from pocketdit.mobile.attention import MobileSelfAttention, Rotation
from pocketdit.mobile.layers import pointwise


class MobileGatedSelfAttention(MobileSelfAttention):
    """Attention over all tokens, in which every head has a learned gate per token."""

    def __init__(self, width: int, head_dim: int, kv_heads: int, query_chunk: int) -> None:
        super().__init__(width, head_dim, kv_heads, query_chunk)
        self.gate = pointwise(width, width // head_dim)

    @override
    def attend(self, x: Tensor, rotation: Rotation) -> Tensor:
        output = self.split_heads(super().attend(x, rotation))  # (B, H, E, N)
        gate = torch.sigmoid(self.gate(x)).reshape(x.shape[0], -1, 1, x.shape[3])
        return (output * gate).reshape(x.shape)
