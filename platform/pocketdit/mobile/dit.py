"""The mobile form of a network of one width, for one image size, and its text projection.

Shape letters: B batch, C latent channels, h x w latent sides, D hidden size, N image tokens, L text tokens including
the learned one. The residual stream is (B, D, 1, N) throughout.

Names of modules and buffers appear in exported graphs.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pocketdit.backbones.attention import Grid
from pocketdit.backbones.dit import ElasticDiT, precondition
from pocketdit.backbones.position import axial_rope, positional_embedding
from pocketdit.backbones.spec import FULL_WIDTH, DiTSpec, Level
from pocketdit.mobile.attention import (
    Blockwise,
    MobileCrossAttention,
    MobileFeedForward,
    Rotation,
    build_self_attention,
)
from pocketdit.mobile.layers import ChannelNorm, modulate, pointwise
from pocketdit.mobile.split_einsum import HIDDEN
from pocketdit.mobile.weights import TEXT_PREFIX, mobile_weights

CPU = torch.device("cpu")


class MobileTimeEmbedding(nn.Module):
    """Like ``backbones.block.TimeEmbedding``. The sinusoids need fp32 even if everything else is fp16."""

    rates: Tensor

    def __init__(self, frequencies: int, hidden: int) -> None:
        super().__init__()
        half = frequencies // 2
        rates = torch.exp(-math.log(10_000) * torch.arange(half, device=CPU) / half)
        self.register_buffer("rates", rates.reshape(1, half, 1, 1), persistent=False)
        self.embed = nn.Sequential(pointwise(frequencies, hidden), nn.SiLU(), pointwise(hidden, hidden))
        self.modulation = pointwise(hidden, 6 * hidden)

    def forward(self, time: Tensor) -> tuple[Tensor, Tensor]:
        """time (B,) -> embedding (B, D, 1, 1), modulation (B, 6 D, 1, 1)."""
        angles = 1000.0 * time[:, None, None, None] * self.rates
        embedding = self.embed(torch.cat([angles.cos(), angles.sin()], dim=1))
        return embedding, self.modulation(F.silu(embedding))


class MobileBlock(nn.Module):
    """Modulated self-attention, cross-attention, modulated FFN. The scales in ``table`` contain adaLN's 1."""

    def __init__(self, spec: DiTSpec, level: Level, grid: Grid, blockwise: Blockwise, query_chunk: int) -> None:
        super().__init__()
        self.attention = build_self_attention(spec.width, spec.head_dim, level.attention, grid, blockwise, query_chunk)
        self.cross = MobileCrossAttention(spec.width, spec.head_dim, spec.text_width, spec.text_kv_heads)
        self.ffn = MobileFeedForward(spec.width, level.ffn_ratio)
        self.table = nn.Parameter(torch.zeros(6 * spec.width, 1, 1))

    def forward(self, x: Tensor, rotation: Rotation, modulation: Tensor, text: Tensor, text_bias: Tensor) -> Tensor:
        """x (B, D, 1, N) -> (B, D, 1, N)."""
        shift1, scale1, gate1, shift2, scale2, gate2 = (modulation + self.table).chunk(6, dim=1)
        x = x + gate1 * self.attention(modulate(x, shift1, scale1), rotation)
        x = x + self.cross(x, text, text_bias)
        return x + gate2 * self.ffn(modulate(x, shift2, scale2))


class MobileLongSkip(nn.Module):
    """U-ViT's long skip connection as a sum of two linear maps."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stream = pointwise(width, width)
        self.skip = pointwise(width, width, bias=False)

    def forward(self, x: Tensor, earlier: Tensor) -> Tensor:
        """Merge the stream with an earlier block's input, both (B, D, 1, N)."""
        return self.stream(x) + self.skip(earlier)  # type: ignore[no-any-return]


class MobileStage(nn.Module):
    """The blocks of one level with its long skips. RoPE's tables are constants of the graph."""

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
        """x (B, D, 1, N); ``context``: modulation, text and its bias."""
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
    """Project the tokens of all text encoders to one width, after the learned token. Runs once per image.

    Its outputs are inputs of ``MobileDiT``: the tokens, and the mask as a bias on the logits of cross-attention, which
    is 0 for a real token and ``HIDDEN`` (-1e4) for padding.
    """

    seen: Tensor

    def __init__(self, spec: DiTSpec) -> None:
        super().__init__()
        self.project = nn.ModuleList(pointwise(size, spec.text_width) for size in spec.text_inputs)
        self.norm = nn.ModuleList(ChannelNorm(spec.text_width, axis=1) for _ in spec.text_inputs)
        self.null = nn.Parameter(torch.zeros(1, spec.text_width, 1, 1))
        self.register_buffer("seen", torch.ones(1, 1, device=CPU), persistent=False)

    def forward(self, embeddings: Sequence[Tensor], masks: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Project text.

        Args:
            embeddings: (B, L_i, width_i) per encoder.
            masks: (B, L_i) of 1 and 0 per encoder.

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
    """``ElasticDiT`` of one width for latents of one size. Its outputs are equal up to rounding.

    Args:
        spec: The network; it has one width.
        size: Latent sides (h, w).
        blockwise: Whether ASSA computes its blocks one after another or as one batch.
        query_chunk: Queries per step in attention over all (compressed) keys; 0 for all at once.

    Raises:
        ValueError: The network does not support the size, or its blocks cannot be batched.
    """

    places: Tensor

    def __init__(
        self, spec: DiTSpec, size: tuple[int, int], blockwise: Blockwise = "batched", query_chunk: int = 0
    ) -> None:
        super().__init__()
        if spec.widths != (FULL_WIDTH,):
            raise ValueError("the mobile form has one width; extract it from the supernet first")
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
            latents: (B, C, h, w).
            time: (B,) in [0, 1].
            text: (B, text width, 1, L), from ``MobileTextProjection``.
            text_bias: (B, L, 1, 1), from ``MobileTextProjection``.
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
        """Like ``ElasticDiT._run_levels``. Feature maps between the stages are (B, D, rows, columns)."""
        h = self.stages[0](h, *context)
        if len(self.stages) == 1:
            return h
        middle = self.down(h.reshape(*h.shape[:2], *self.grid))
        shape = middle.shape
        middle = self.stages[1](middle.reshape(*shape[:2], 1, -1), *context)
        return self.stages[2](h + self.up(middle.reshape(shape)).reshape(h.shape), *context)  # type: ignore[no-any-return]


def build_mobile(
    network: ElasticDiT, size: tuple[int, int], blockwise: Blockwise = "batched", query_chunk: int = 0
) -> tuple[MobileDiT, MobileTextProjection]:
    """Build the mobile form of a standalone network; it shares the network's matrices.

    Raises:
        ValueError: See ``MobileDiT``.
    """
    with torch.device("meta"):
        transformer = MobileDiT(network.spec, size, blockwise, query_chunk)
        text = MobileTextProjection(network.spec)
    weights = mobile_weights(network.state_dict(), network.spec)
    text_weights = {name: value for name, value in weights.items() if name.startswith(TEXT_PREFIX)}
    text.load_state_dict({name.removeprefix(TEXT_PREFIX): v for name, v in text_weights.items()}, assign=True)
    transformer.load_state_dict({name: v for name, v in weights.items() if name not in text_weights}, assign=True)
    return transformer.requires_grad_(False).eval(), text.requires_grad_(False).eval()
