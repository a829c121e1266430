"""Attention over all tokens, with a learned gate for every head."""

import torch
from torch import Tensor
from typing_extensions import override

from pocketdit.backbones.attention import CosSin, Grid, SelfAttention
from pocketdit.backbones.elastic import ElasticLinear
from pocketdit.backbones.forms import AttentionForms


class GatedSelfAttention(SelfAttention):
    """Attention over all tokens, in which every head has a learned gate per token."""

    def __init__(self, width: int, head_dim: int, kv_heads: int) -> None:
        super().__init__(width, head_dim, kv_heads)
        self.gate = ElasticLinear(width, width // head_dim)

    @override
    def attend(self, x: Tensor, grid: Grid, cos_sin: CosSin, forms: AttentionForms) -> Tensor:
        output = super().attend(x, grid, cos_sin, forms)  # (B, H, N, E)
        # The number of heads H depends on the width, so only the first H rows of the gate are used: (B, N, H).
        gate = torch.sigmoid(self.gate(x, out_features=output.shape[1]))
        return output * self.split_queries(gate, channels=1).to(output.dtype)
