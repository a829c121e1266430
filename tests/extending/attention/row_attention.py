"""Attention with equal weights."""

from torch import Tensor
from typing_extensions import override

from pocketdit.backbones.attention import CosSin, Grid, SelfAttention


class MeanSelfAttention(SelfAttention):
    """Attention in which every token receives the mean of all values."""

    @override
    def attend(self, x: Tensor, grid: Grid, cos_sin: CosSin) -> Tensor:
        # project() slices the weights to the width of x (B, N, D): q is (B, H, N, E), k and v are (B, G, N, E).
        q, _, v = self.project(x, cos_sin)
        return v.mean(2, keepdim=True).repeat_interleave(q.shape[1] // v.shape[1], 1).expand_as(q)
