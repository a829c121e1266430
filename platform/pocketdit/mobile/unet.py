"""The mobile form of SnapGen's U-Net, for latents of one size.

The mobile form reuses the layers of the trained network: convolutions are left unchanged, linear layers become 1x1
convolutions whose weights are views of the originals, and attention is computed head by head (see ``split_einsum.py``).

Shape letters: B = batch, C = channels, h, w = height and width of a feature map, N = h * w, L = text tokens,
H = query heads, E = channels per head.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pocketdit.backbones.dit import precondition
from pocketdit.backbones.unet import UNet
from pocketdit.mobile.layers import GUARD, ChannelNorm
from pocketdit.mobile.split_einsum import Heads, attention, chunked_attention


def as_pointwise(layer: nn.Module) -> nn.Conv2d:
    """Return a linear layer as a 1x1 convolution that shares its weights."""
    assert isinstance(layer, nn.Linear)
    with torch.device("meta"):
        convolution = nn.Conv2d(layer.in_features, layer.out_features, kernel_size=1, bias=layer.bias is not None)
    convolution.weight = nn.Parameter(layer.weight[:, :, None, None], requires_grad=False)
    convolution.bias = layer.bias
    return convolution


def as_channel_norm(layer: nn.Module) -> nn.Module:
    """Convert a LayerNorm to a norm over the channels of (B, C, 1, N), and return other layers unchanged."""
    if not isinstance(layer, nn.LayerNorm):
        return layer
    norm = ChannelNorm(layer.normalized_shape[0], axis=1, eps=layer.eps)
    norm.weight = nn.Parameter(layer.weight[:, None, None], requires_grad=False)
    norm.bias = nn.Parameter(layer.bias[:, None, None], requires_grad=False)
    return norm


class MobileGroupNorm(nn.Module):
    """``nn.GroupNorm`` that does not overflow in fp16 (see ``layers.normalize``)."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        assert isinstance(norm, nn.GroupNorm)
        self.groups, self.eps = norm.num_groups, norm.eps
        self.weight = nn.Parameter(norm.weight[:, None, None], requires_grad=False)
        self.bias = nn.Parameter(norm.bias[:, None, None], requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Normalize x (B, C, h, w)."""
        grouped = x.reshape(x.shape[0], self.groups, x.shape[1] // self.groups, -1)
        centered = (grouped - grouped.mean((2, 3), keepdim=True)) * GUARD
        variance = (centered * centered).mean((2, 3), keepdim=True)
        normalized = centered * torch.rsqrt(variance + self.eps * GUARD**2)
        return normalized.reshape(x.shape) * self.weight + self.bias


class HeadRMSNorm(nn.Module):
    """RMSNorm over the channels of each head, multiplied by a constant.

    Args:
        norm: diffusers' RMSNorm.
        scale: Constant by which the normalized channels are multiplied.
    """

    def __init__(self, norm: nn.Module, scale: float = 1.0) -> None:
        super().__init__()
        self.eps = float(norm.eps)  # type: ignore[arg-type]  # torch declares it as a module or a tensor
        self.weight = nn.Parameter(norm.get_parameter("weight")[:, None] * scale, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Normalize x (B, H * E, 1, N)."""
        heads = x.reshape(x.shape[0], -1, len(self.weight), x.shape[3]) * GUARD
        variance = (heads * heads).mean(2, keepdim=True)
        return (heads * torch.rsqrt(variance + self.eps * GUARD**2) * self.weight).reshape(x.shape)


class MobileAttention(nn.Module):
    """Multi-query self-attention or, with a bias on the logits, cross-attention to the text."""

    def __init__(self, layer: nn.Module, head_dim: int, query_chunk: int) -> None:
        super().__init__()
        self.heads, self.query_chunk = Heads(head_dim), query_chunk
        self.to_q, self.to_k, self.to_v = (as_pointwise(layer.get_submodule(f"to_{name}")) for name in "qkv")
        self.to_out = as_pointwise(layer.get_submodule("to_out.0"))
        self.norm_q = HeadRMSNorm(layer.get_submodule("norm_q"), 1 / math.sqrt(head_dim))
        self.norm_k = HeadRMSNorm(layer.get_submodule("norm_k"))

    def forward(self, x: Tensor, text: Tensor | None = None, text_bias: Tensor | None = None) -> Tensor:
        """Map x (B, C, 1, N) to (B, C, 1, N), with text (B, text width, 1, L) and text_bias (B, L, 1, 1)."""
        source = x if text is None else text
        q, k, v = self.norm_q(self.to_q(x)), self.norm_k(self.to_k(source)).transpose(1, 3), self.to_v(source)
        if text is None:
            attended = chunked_attention(q, k, v, self.heads, self.query_chunk)
        else:
            attended = attention(q, k, v, self.heads, text_bias)
        output: Tensor = self.to_out(attended)
        return output


class MobileLayer(nn.Module):
    """A transformer layer: cross-attention, a gated FFN, and, at the lowest resolution, self-attention."""

    def __init__(self, layer: nn.Module, head_dim: int, query_chunk: int) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (as_channel_norm(layer.get_submodule(f"norm{i}")) for i in (1, 2, 3))
        attends = "attn1" in dict(layer.named_children())
        self.attn1 = MobileAttention(layer.get_submodule("attn1"), head_dim, query_chunk) if attends else None
        self.attn2 = MobileAttention(layer.get_submodule("attn2"), head_dim, query_chunk)
        self.expand = as_pointwise(layer.get_submodule("ff.net.0.proj"))
        self.contract = as_pointwise(layer.get_submodule("ff.net.2"))

    def forward(self, x: Tensor, text: Tensor, text_bias: Tensor) -> Tensor:
        """Map x (B, C, 1, N) to (B, C, 1, N)."""
        normalized = self.norm1(x)
        x = normalized if self.attn1 is None else x + self.attn1(normalized)
        x = x + self.attn2(self.norm2(x), text, text_bias)
        value, gate = self.expand(self.norm3(x)).chunk(2, dim=1)
        output: Tensor = x + self.contract(value * F.gelu(gate))
        return output


class MobileTransformer(nn.Module):
    """The transformer layers after a residual block, with a skip connection around them."""

    def __init__(self, stack: nn.Module, head_dim: int, query_chunk: int) -> None:
        super().__init__()
        self.norm = MobileGroupNorm(stack.get_submodule("norm"))
        self.proj_in = as_pointwise(stack.get_submodule("proj_in"))
        self.proj_out = as_pointwise(stack.get_submodule("proj_out"))
        layers = stack.get_submodule("transformer_blocks")
        self.transformer_blocks = nn.ModuleList(
            MobileLayer(layer, head_dim, query_chunk) for layer in layers.children()
        )

    def forward(self, x: Tensor, text: Tensor, text_bias: Tensor) -> Tensor:
        """Map x (B, C, h, w) to (B, C, h, w)."""
        tokens = self.proj_in(self.norm(x).reshape(*x.shape[:2], 1, -1))
        for layer in self.transformer_blocks:
            tokens = layer(tokens, text, text_bias)
        output: Tensor = x + self.proj_out(tokens).reshape(x.shape)
        return output


class MobileResidual(nn.Module):
    """A residual block of two depthwise-separable convolutions."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.norm1, self.norm2 = (MobileGroupNorm(block.get_submodule(f"norm{i}")) for i in (1, 2))
        self.conv1, self.conv2 = block.get_submodule("conv1"), block.get_submodule("conv2")
        self.time_emb_proj = as_pointwise(block.get_submodule("time_emb_proj"))
        self.conv_shortcut = dict(block.named_children()).get("conv_shortcut")

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Map x (B, C, h, w) to (B, C', h, w), given the activated time embedding (B, D, 1, 1)."""
        inner = self.conv1(F.silu(self.norm1(x))) + self.time_emb_proj(embedding)
        inner = self.conv2(F.silu(self.norm2(inner)))
        output: Tensor = (x if self.conv_shortcut is None else self.conv_shortcut(x)) + inner
        return output


class MobileStage(nn.Module):
    """The residual blocks and transformers of one resolution, and the convolution that changes the resolution."""

    def __init__(self, stage: nn.Module, head_dim: int, query_chunk: int) -> None:
        super().__init__()
        parts = dict(stage.named_children())
        self.resnets = nn.ModuleList(map(MobileResidual, parts["resnets"].children()))
        stacks = parts["attentions"].children() if "attentions" in parts else ()
        self.attentions = nn.ModuleList(MobileTransformer(stack, head_dim, query_chunk) for stack in stacks)
        resampler = parts.get("downsamplers", parts.get("upsamplers"))
        self.resample = None if resampler is None else resampler.get_submodule("0.conv")


class MobileUNet(nn.Module):
    """The mobile form of a ``UNet``. Both forms agree up to rounding.

    Args:
        network: The trained network, whose weights are shared.
        size: Latent height and width.
        query_chunk: Number of queries that self-attention processes at a time; 0 processes all of them at once.

    Raises:
        ValueError: The network does not support the size.
    """

    rates: Tensor

    def __init__(self, network: UNet, size: tuple[int, int], query_chunk: int = 0) -> None:
        super().__init__()
        spec, unet = network.spec, network.unet
        if min(size) < 1 or any(side % spec.latent_multiple for side in size):
            raise ValueError(f"latent sides {size[0]}x{size[1]} must be multiples of {spec.latent_multiple}")
        self.spec = spec
        half = spec.channels[0] // 2
        rates = torch.exp(-math.log(10_000) * torch.arange(half, device="cpu") / half)
        self.register_buffer("rates", rates.reshape(1, half, 1, 1), persistent=False)
        self.time = nn.Sequential(
            as_pointwise(unet.time_embedding.linear_1), nn.SiLU(), as_pointwise(unet.time_embedding.linear_2)
        )
        self.conv_in, self.conv_out = unet.conv_in, unet.conv_out
        self.norm_out = MobileGroupNorm(unet.conv_norm_out)
        options = (spec.head_dim, query_chunk)
        self.down = nn.ModuleList(MobileStage(stage, *options) for stage in unet.down_blocks)
        self.middle = MobileStage(unet.mid_block, *options)
        self.up = nn.ModuleList(MobileStage(stage, *options) for stage in unet.up_blocks)

    def forward(self, latents: Tensor, time: Tensor, text: Tensor, text_bias: Tensor) -> Tensor:
        """Predict the velocity (B, C, h, w). The arguments are the same as for ``MobileDiT``."""
        if not self.spec.latent_std:
            return self.predict(latents, time, text, text_bias)
        c_in, c_skip, c_out = precondition(time, self.spec.latent_std)
        return c_skip * latents + c_out * self.predict(c_in * latents, time, text, text_bias)

    def predict(self, x: Tensor, time: Tensor, text: Tensor, text_bias: Tensor) -> Tensor:
        """Run the network without preconditioning."""
        angles = 1000.0 * time[:, None, None, None] * self.rates
        embedding = F.silu(self.time(torch.cat([angles.cos(), angles.sin()], dim=1)))
        x = self.conv_in(x)
        skipped = [x]
        for stage in self.down:
            assert isinstance(stage, MobileStage)
            for index, block in enumerate(stage.resnets):
                x = stage.attentions[index](block(x, embedding), text, text_bias)
                skipped.append(x)
            if stage.resample is not None:
                x = stage.resample(x)
                skipped.append(x)
        first, last = self.middle.resnets
        x = last(self.middle.attentions[0](first(x, embedding), text, text_bias), embedding)
        for stage in self.up:
            assert isinstance(stage, MobileStage)
            for index, block in enumerate(stage.resnets):
                x = block(torch.cat([x, skipped.pop()], dim=1), embedding)
                if stage.attentions:
                    x = stage.attentions[index](x, text, text_bias)
            if stage.resample is not None:
                x = stage.resample(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        output: Tensor = self.conv_out(F.silu(self.norm_out(x)))
        return output
