"""The mobile form of a network, for a single width and image size, and its text projection.

Shape letters: B = batch, C = latent channels, h x w = latent sides, D = hidden size, N = image tokens, L = text tokens,
including the learned null token. The residual stream is always (B, D, 1, N).

The names of modules and buffers appear in exported graphs.
"""

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pocketdit.backbones.attention import Grid
from pocketdit.backbones.dit import ElasticDiT, precondition
from pocketdit.backbones.position import axial_rope, positional_embedding
from pocketdit.backbones.spec import FULL_WIDTH, BackboneSpec, DiTSpec, Level
from pocketdit.mobile.attention import (
    Blockwise,
    MobileCrossAttention,
    MobileFeedForward,
    Rotation,
    build_self_attention,
)
from pocketdit.mobile.layers import ChannelNorm, modulate, pointwise
from pocketdit.mobile.split_einsum import HIDDEN, Heads
from pocketdit.mobile.weights import TEXT_PREFIX, mobile_weights

CPU = torch.device("cpu")


class MobileTimeEmbedding(nn.Module):
    """The mobile form of ``backbones.block.TimeEmbedding``.

    The sinusoids must be computed in fp32, even if the rest of the network is in fp16.
    """

    rates: Tensor

    def __init__(self, frequencies: int, hidden: int) -> None:
        super().__init__()
        half = frequencies // 2
        rates = torch.exp(-math.log(10_000) * torch.arange(half, device=CPU) / half)
        self.register_buffer("rates", rates.reshape(1, half, 1, 1), persistent=False)
        self.embed = nn.Sequential(pointwise(frequencies, hidden), nn.SiLU(), pointwise(hidden, hidden))
        self.modulation = pointwise(hidden, 6 * hidden)

    def forward(self, time: Tensor) -> tuple[Tensor, Tensor]:
        """Return the embedding (B, D, 1, 1) and the modulation (B, 6 * D, 1, 1) for the times (B,)."""
        angles = 1000.0 * time[:, None, None, None] * self.rates
        embedding = self.embed(torch.cat([angles.cos(), angles.sin()], dim=1))
        return embedding, self.modulation(F.silu(embedding))


class MobileBlock(nn.Module):
    """Modulated self-attention, cross-attention, and a modulated FFN.

    The scales in ``table`` already include the 1 of adaLN's ``1 + scale``.
    """

    def __init__(self, spec: DiTSpec, level: Level, grid: Grid, blockwise: Blockwise, query_chunk: int) -> None:
        super().__init__()
        self.attention = build_self_attention(spec.width, spec.head_dim, level.attention, grid, blockwise, query_chunk)
        self.cross = MobileCrossAttention(spec.width, spec.head_dim, spec.text_width, spec.text_kv_heads)
        self.attention.heads = self.cross.heads = Heads(spec.head_dim, spec.query_groups == "interleaved")
        self.ffn = MobileFeedForward(spec.width, level.ffn_ratio)
        self.table = nn.Parameter(torch.zeros(6 * spec.width, 1, 1))

    def forward(self, x: Tensor, rotation: Rotation, modulation: Tensor, text: Tensor, text_bias: Tensor) -> Tensor:
        """Map x (B, D, 1, N) to (B, D, 1, N)."""
        shift1, scale1, gate1, shift2, scale2, gate2 = (modulation + self.table).chunk(6, dim=1)
        x = x + gate1 * self.attention(modulate(x, shift1, scale1), rotation)
        x = x + self.cross(x, text, text_bias)
        output: Tensor = x + gate2 * self.ffn(modulate(x, shift2, scale2))
        return output


class MobileLongSkip(nn.Module):
    """U-ViT's long skip connection, implemented as the sum of two linear maps."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stream = pointwise(width, width)
        self.skip = pointwise(width, width, bias=False)

    def forward(self, x: Tensor, earlier: Tensor) -> Tensor:
        """Merge the stream with the output of an earlier block, both (B, D, 1, N)."""
        merged: Tensor = self.stream(x) + self.skip(earlier)
        return merged


class MobileStage(nn.Module):
    """The blocks of one level and their long skip connections. The RoPE tables are constants in the graph."""

    cos: Tensor
    sin: Tensor

    def __init__(self, spec: DiTSpec, level: Level, grid: Grid, blockwise: Blockwise, query_chunk: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(MobileBlock(spec, level, grid, blockwise, query_chunk) for _ in range(level.depth))
        skips = level.depth // 2 if level.long_skips else 0
        self.skips = nn.ModuleList(MobileLongSkip(spec.width) for _ in range(skips))
        cos, sin = axial_rope(*grid, spec.head_dim, spec.rope_theta, CPU)
        self.register_buffer("cos", cos.T.contiguous(), persistent=False)
        self.register_buffer("sin", sin.T.contiguous(), persistent=False)

    def forward(self, x: Tensor, *context: Tensor) -> Tensor:
        """Map x (B, D, 1, N) to (B, D, 1, N). ``context`` is the modulation, the text tokens and the text bias."""
        earlier: list[Tensor] = []
        first_skipped = len(self.blocks) - len(self.skips)
        for index, block in enumerate(self.blocks):
            if index >= first_skipped:
                x = self.skips[index - first_skipped](x, earlier.pop())
            x = block(x, (self.cos, self.sin), *context)
            if index < len(self.skips):
                earlier.append(x)
        return x


class MobileTextProjection(nn.Module):
    """Projects the tokens of all text encoders to one width and prepends the learned null token. Runs once per image.

    The outputs are inputs of ``MobileDiT``: the tokens, and the mask as a bias on the logits of cross-attention. The
    bias is 0 for a real token and ``HIDDEN`` (-1e4) for padding.
    """

    seen: Tensor

    def __init__(self, spec: BackboneSpec) -> None:
        super().__init__()
        self.project = nn.ModuleList(pointwise(size, spec.text_width) for size in spec.text_inputs)
        self.norm = nn.ModuleList(ChannelNorm(spec.text_width, axis=1) for _ in spec.text_inputs)
        self.null = nn.Parameter(torch.zeros(1, spec.text_width, 1, 1))
        self.register_buffer("seen", torch.ones(1, 1, device=CPU), persistent=False)

    def forward(self, embeddings: Sequence[Tensor], masks: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Project the text.

        Args:
            embeddings: Embeddings (B, L_i, width_i) from each encoder.
            masks: Mask (B, L_i) from each encoder: 1 for a real token and 0 for padding.

        Returns:
            Tokens (B, text width, 1, L) and bias (B, L, 1, 1).
        """
        batch = embeddings[0].shape[0]
        tokens, visible = [self.null.expand(batch, -1, -1, -1)], [self.seen.expand(batch, -1)]
        for project, norm, embedding, mask in zip(self.project, self.norm, embeddings, masks, strict=True):
            tokens.append(norm(project(embedding.transpose(1, 2)[:, :, None])))
            visible.append(mask)
        bias = (1.0 - torch.cat(visible, dim=1)) * HIDDEN
        return torch.cat(tokens, dim=3), bias[:, :, None, None]


class MobileDiT(nn.Module):
    """The mobile form of a single-width ``ElasticDiT``, for latents of one size. Both forms agree up to rounding.

    Args:
        spec: Description of the network, which must have a single width.
        size: Latent sides (h, w).
        blockwise: Whether ASSA computes its blocks in a loop or as one batch.
        query_chunk: Number of queries that attend to all (compressed) keys at a time; 0 processes all of them at once.

    Raises:
        ValueError: The network does not support the size, or its blocks cannot be batched.
    """

    places: Tensor

    def __init__(
        self, spec: DiTSpec, size: tuple[int, int], blockwise: Blockwise = "batched", query_chunk: int = 0
    ) -> None:
        super().__init__()
        if spec.widths != (FULL_WIDTH,):
            raise ValueError(
                "the mobile form supports only a single width; extract a sub-network from the supernet first"
            )
        if min(size) < 1 or any(side % spec.latent_multiple for side in size):
            raise ValueError(f"latent sides {size[0]}x{size[1]} must be multiples of {spec.latent_multiple}")
        self.spec, self.size = spec, size
        self.grid = (size[0] // spec.patch_size, size[1] // spec.patch_size)
        grids = {scale: (self.grid[0] // scale, self.grid[1] // scale) for scale in (1, 2)}
        patch = spec.patch_size**2 * spec.latent_channels
        self.embed = pointwise(patch, spec.width)
        self.time = MobileTimeEmbedding(spec.frequency_width, spec.width)
        self.stages = nn.ModuleList(
            MobileStage(spec, level, grids[level.scale], blockwise, query_chunk) for level in spec.levels
        )
        if len(spec.levels) == 3:
            self.down = nn.Conv2d(spec.width, spec.width, kernel_size=2, stride=2)
            self.up = nn.ConvTranspose2d(spec.width, spec.width, kernel_size=2, stride=2)
        self.final_table = nn.Parameter(torch.zeros(2 * spec.width, 1, 1))
        self.unembed = pointwise(spec.width, patch)
        positions = positional_embedding(*self.grid, spec.width, CPU).T.reshape(1, spec.width, 1, -1).contiguous()
        self.register_buffer("places", positions, persistent=False)

    def forward(self, latents: Tensor, time: Tensor, text: Tensor, text_bias: Tensor) -> Tensor:
        """Predict the velocity (B, C, h, w).

        Args:
            latents: Noisy latents (B, C, h, w).
            time: Time (B,) in [0, 1].
            text: Tokens (B, text width, 1, L) from ``MobileTextProjection``.
            text_bias: Bias (B, L, 1, 1) from ``MobileTextProjection``.
        """
        preconditioned = bool(self.spec.latent_std)
        x = latents
        if preconditioned:
            c_in, c_skip, c_out = precondition(time, self.spec.latent_std)
            x = c_in * x
        embedding, modulation = self.time(time)
        patches = F.pixel_unshuffle(x, self.spec.patch_size)
        h = self.embed(patches.reshape(*patches.shape[:2], 1, -1)) + self.places
        h = self.run_stages(h, modulation, text, text_bias)
        shift, scale = (embedding + row for row in self.final_table.chunk(2))
        out = self.unembed(modulate(h, shift, scale))
        output = F.pixel_shuffle(out.reshape(*out.shape[:2], *self.grid), self.spec.patch_size)
        return c_skip * latents + c_out * output if preconditioned else output

    def run_stages(self, h: Tensor, *context: Tensor) -> Tensor:
        """Run the stages like ``ElasticDiT._run_levels``. Convolutions between the stages use (B, D, height, width)."""
        h = self.stages[0](h, *context)
        if len(self.stages) == 1:
            return h
        middle = self.down(h.reshape(*h.shape[:2], *self.grid))
        shape = middle.shape
        middle = self.stages[1](middle.reshape(*shape[:2], 1, -1), *context)
        output: Tensor = self.stages[2](h + self.up(middle.reshape(shape)).reshape(h.shape), *context)
        return output


def build_mobile(
    network: ElasticDiT, size: tuple[int, int], blockwise: Blockwise = "batched", query_chunk: int = 0
) -> tuple[MobileDiT, MobileTextProjection]:
    """Build the mobile form of a standalone network. The two share the memory of their matrices.

    Raises:
        ValueError: The network does not support the size, or its blocks cannot be batched.
    """
    with torch.device("meta"):
        transformer = MobileDiT(network.spec, size, blockwise, query_chunk)
    state = network.state_dict()
    weights = mobile_weights(state, network.spec)
    others = {name: value for name, value in weights.items() if not name.startswith(TEXT_PREFIX)}
    transformer.load_state_dict(others, assign=True)
    return transformer.requires_grad_(False).eval(), build_text_projection(state, network.spec)


def build_text_projection(weights: Mapping[str, Tensor], spec: BackboneSpec) -> MobileTextProjection:
    """Build the mobile form of the text projection from a network's state dict, sharing the memory of the matrices."""
    with torch.device("meta"):
        text = MobileTextProjection(spec)
    parts = {name: value for name, value in weights.items() if name.startswith(TEXT_PREFIX)}
    converted = mobile_weights(parts, spec)
    text.load_state_dict({name.removeprefix(TEXT_PREFIX): value for name, value in converted.items()}, assign=True)
    return text.requires_grad_(False).eval()
