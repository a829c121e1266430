"""Attention within each row of the token grid."""

import torch
from torch import Tensor
from typing_extensions import override

from pocketdit.backbones.attention import CosSin, Grid, SelfAttention
from pocketdit.backbones.forms import AttentionForms
from pocketdit.backbones.grouped import grouped_attention


class RowSelfAttention(SelfAttention):
    """Attention in which every token attends to the tokens in its row."""

    @override
    def attend(self, x: Tensor, grid: Grid, cos_sin: CosSin, forms: AttentionForms) -> Tensor:
        # project() slices the weights to the width of x (B, N, D): q is (B, H, N, E), k and v are (B, G, N, E).
        parts = (part.to(forms.dtype) for part in self.project(x, cos_sin))
        q, k, v = (torch.unflatten(part, 2, grid).transpose(1, 2).flatten(0, 1) for part in parts)
        output = grouped_attention(q, k, v, forms.grouped)  # each row is a sample: (B * height, H, width, E)
        return torch.unflatten(output, 0, (-1, grid[0])).transpose(1, 2).flatten(2, 3)
