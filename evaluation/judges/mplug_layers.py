"""The parts of mPLUG that transformers does not have, with the tensor names of the published weights.

CLIP: Radford et al. 2021, arXiv 2103.00020. mPLUG: Li et al. 2022, arXiv 2205.12005, Sec. 3.2.

Shapes: B batch size, P image tokens (patches and the class token), T text tokens, D width of the text layers, V width
of the visual layers.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

_CLIP_HEAD = 64  # width of an attention head in every CLIP model


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
    """CLIP's vision transformer without the projection. The last LayerNorm is applied to every token.

    ``skip_last_layer`` in the published code refers to the projection; no block is skipped.

    Args:
        side: Side of the square images in pixels, a multiple of ``patch``.
        patch: Side of a patch in pixels.
        width: Width V.
        layers: Number of blocks.
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
        """Encode normalized images (B, 3, side, side) as states (B, P, V), with the class token first."""
        patches = self.conv1(pixels).flatten(2).transpose(1, 2)
        classes = self.class_embedding.expand(len(patches), 1, -1)
        x = self.ln_pre(torch.cat([classes, patches], dim=1) + self.positional_embedding)
        for block in cast(nn.ModuleList, self.transformer["resblocks"]):
            x = block(x)
        return cast(Tensor, self.ln_post(x))


class _Attention(nn.Module):
    """BERT's attention from ``x`` to ``source``, with an output layer, a residual connection and a LayerNorm."""

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
    """A BERT layer that attends to the image between its self-attention and its feed-forward network."""

    def __init__(self, width: int, heads: int, inner: int, eps: float) -> None:
        super().__init__()
        self.attention = _Attention(width, heads, eps)
        self.crossattention = _Attention(width, heads, eps)
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, inner)})
        self.output = nn.ModuleDict({"dense": nn.Linear(inner, width), "LayerNorm": nn.LayerNorm(width, eps=eps)})

    def forward(self, x: Tensor, image: Tensor | None) -> Tensor:
        """Transform x (B, T, D), attending to the image (B, P, D) unless it is None."""
        x = self.attention(x, x)
        if image is not None:
            x = self.crossattention(x, image)
        inner = self.output["dense"](gelu(self.intermediate["dense"](x)))
        return cast(Tensor, self.output["LayerNorm"](inner + x))


class FusionEncoder(nn.Module):
    """Asymmetric co-attention of text and image. In every ``stride``-th layer, a joint layer, both form one sequence.

    The large model has no more layers than the stride, and therefore no joint layers.

    Args:
        width: Width D.
        heads: Number of attention heads.
        inner: Width of the feed-forward networks.
        eps: Epsilon of the LayerNorms.
        first: Index of the first layer in the published weights, which also contain the unused layers before it.
        layers: Number of layers.
        stride: Distance between joint layers.
    """

    def __init__(self, width: int, heads: int, inner: int, eps: float, first: int, layers: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        numbered = {str(first + i): FusionLayer(width, heads, inner, eps) for i in range(layers)}
        self.encoder = nn.ModuleDict({"layer": nn.ModuleDict(numbered)})

    def forward(self, text: Tensor, image: Tensor) -> Tensor:
        """Fuse unpadded texts (B, T, D) and images (B, P, D) into states (B, P + T, D), with the images first."""
        for number, layer in enumerate(cast(nn.ModuleDict, self.encoder["layer"]).values()):
            if number == 0 or number % self.stride:
                text = layer(text, image)
            else:
                joint = layer(torch.cat([image, text], dim=1), None)
                image, text = image + joint[:, : image.shape[1]], joint[:, image.shape[1] :]
        return torch.cat([image, text], dim=1)
