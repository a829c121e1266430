"""The parts of mPLUG that transformers has not, under the names that the published weights have.

CLIP: Radford et al. 2021, arXiv 2103.00020. mPLUG: Li et al. 2022, arXiv 2205.12005, Sec. 3.2.

Shapes: B batch, P patches and the class token, T text tokens, D width of the text half, V of the visual one.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

_CLIP_HEAD = 64  # width of a head in every CLIP


class _ClipBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, width // _CLIP_HEAD, batch_first=True)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)})

    def forward(self, x: Tensor) -> Tensor:
        h = self.ln_1(x)
        x = x + self.attn(h, h, h, need_weights=False)[0]
        h = self.mlp["c_fc"](self.ln_2(x))
        return x + cast(Tensor, self.mlp["c_proj"](h * torch.sigmoid(1.702 * h)))


class ClipTower(nn.Module):
    """CLIP's vision transformer, all of its blocks and its last LayerNorm over every token, without the projection.

    ``side``: of its square pictures in pixels, a multiple of ``patch``. The published code's ``skip_last_layer`` means
    the projection: no block is left out.
    """

    def __init__(self, side: int, patch: int, width: int, layers: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
        self.class_embedding = nn.Parameter(torch.zeros(width))
        self.positional_embedding = nn.Parameter(torch.zeros((side // patch) ** 2 + 1, width))
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = nn.ModuleDict({"resblocks": nn.ModuleList(_ClipBlock(width) for _ in range(layers))})
        self.ln_post = nn.LayerNorm(width)

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised pictures (B, 3, side, side) -> (B, P, V), the class token first."""
        patches = self.conv1(pixels).flatten(2).transpose(1, 2)
        classes = self.class_embedding.expand(len(patches), 1, -1)
        x = self.ln_pre(torch.cat([classes, patches], dim=1) + self.positional_embedding)
        for block in cast(nn.ModuleList, self.transformer["resblocks"]):
            x = block(x)
        return cast(Tensor, self.ln_post(x))


class _Attention(nn.Module):
    """BERT's attention: heads, output, residual, LayerNorm. Self-attention where ``source`` is the input."""

    def __init__(self, width: int, heads: int, eps: float) -> None:
        super().__init__()
        self.heads = heads
        self.self = nn.ModuleDict({name: nn.Linear(width, width) for name in ("query", "key", "value")})
        self.output = nn.ModuleDict({"dense": nn.Linear(width, width), "LayerNorm": nn.LayerNorm(width, eps=eps)})

    def forward(self, x: Tensor, source: Tensor) -> Tensor:
        query, key, value = (
            self.self[name](states).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for name, states in (("query", x), ("key", source), ("value", source))
        )
        mixed = scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        return cast(Tensor, self.output["LayerNorm"](self.output["dense"](mixed) + x))


class FusionLayer(nn.Module):
    """A layer of BERT with attention to the picture between its self-attention and its feed-forward network."""

    def __init__(self, width: int, heads: int, inner: int, eps: float) -> None:
        super().__init__()
        self.attention = _Attention(width, heads, eps)
        self.crossattention = _Attention(width, heads, eps)
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, inner)})
        self.output = nn.ModuleDict({"dense": nn.Linear(inner, width), "LayerNorm": nn.LayerNorm(width, eps=eps)})

    def forward(self, x: Tensor, picture: Tensor | None) -> Tensor:
        """(B, T, D) and the picture (B, P, D), or None to pass the attention to it over -> (B, T, D)."""
        x = self.attention(x, x)
        if picture is not None:
            x = self.crossattention(x, picture)
        inner = self.output["dense"](gelu(self.intermediate["dense"](x)))
        return cast(Tensor, self.output["LayerNorm"](inner + x))


class FusionEncoder(nn.Module):
    """The asymmetric co-attention of text and picture; every ``stride``-th layer takes both as one sequence.

    ``first`` and ``layers``: the published weights number the layers from ``first``; those before are never used.
    The number of layers in use being no more than the stride, the large model has no such joint layer.
    """

    def __init__(self, width: int, heads: int, inner: int, eps: float, first: int, layers: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        numbered = {str(first + i): FusionLayer(width, heads, inner, eps) for i in range(layers)}
        self.encoder = nn.ModuleDict({"layer": nn.ModuleDict(numbered)})

    def forward(self, text: Tensor, picture: Tensor) -> Tensor:
        """Text (B, T, D), without padding, and picture (B, P, D) -> both after fusion, the picture first."""
        for number, layer in enumerate(cast(nn.ModuleDict, self.encoder["layer"]).values()):
            if number == 0 or number % self.stride:
                text = layer(text, picture)
            else:
                joint = layer(torch.cat([picture, text], dim=1), None)
                picture, text = picture + joint[:, : picture.shape[1]], joint[:, picture.shape[1] :]
        return torch.cat([picture, text], dim=1)
