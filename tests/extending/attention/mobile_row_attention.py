"""The mobile form of attention within each row of the token grid."""

from torch import Tensor
from typing_extensions import override

from pocketdit.backbones.attention import Grid
from pocketdit.mobile.attention import MobileSelfAttention, Rotation
from pocketdit.mobile.split_einsum import attention


class MobileRowSelfAttention(MobileSelfAttention):
    """Attention in which every token attends to the tokens in its row, for a fixed size of the token grid."""

    def __init__(self, width: int, head_dim: int, kv_heads: int, grid: Grid) -> None:
        super().__init__(width, head_dim, kv_heads, query_chunk=0)
        self.grid = grid

    @override
    def attend(self, x: Tensor, rotation: Rotation) -> Tensor:
        # Queries, keys and values are (B, channels, 1, N), like x. They are reshaped to (B, channels, height, width).
        q, k, v = (part.reshape(*part.shape[:2], *self.grid) for part in self.project(x, rotation))
        return attention(q, k.transpose(1, 3), v, self.heads).reshape(x.shape)
