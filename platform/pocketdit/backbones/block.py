"""The transformer block and the levels that are built from it (paper Fig. 2), with modulation by the time embedding.

Shape letters: B batch, N image tokens, L text tokens, D hidden size.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pocketdit.backbones.attention import CosSin, CrossAttention, FeedForward, Grid, build_self_attention
from pocketdit.backbones.elastic import ElasticLinear, WidthSpecific
from pocketdit.backbones.spec import DiTSpec, Level


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Apply a LayerNorm without parameters, then scale and shift (adaLN).

    Args:
        x: Tokens (B, N, D).
        shift: Shift (B, 1, D).
        scale: Scale minus one, (B, 1, D).

    Returns:
        Modulated tokens (B, N, D).
    """
    return F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift


class TimeEmbedding(nn.Module):
    """Embeds the time and computes the six modulation vectors that all blocks share (adaLN-single of PixArt).

    Args:
        frequencies: Number of sine and cosine features, half of each.
        hidden: D, the hidden size of one width.
    """

    def __init__(self, frequencies: int, hidden: int) -> None:
        super().__init__()
        self.frequencies = frequencies
        self.embed = nn.Sequential(nn.Linear(frequencies, hidden), nn.SiLU(), nn.Linear(hidden, hidden))
        self.modulation = nn.Linear(hidden, 6 * hidden)

    def forward(self, time: Tensor) -> tuple[Tensor, Tensor]:
        """Map times (B,) in [0, 1] to an embedding (B, 1, D) and modulation vectors (B, 6, D)."""
        half = self.frequencies // 2
        # The angles are fp32 in every precision (autocast does not change these operations): in fp16, cos(1000 t) would
        # be off by up to 0.2.
        frequencies = torch.exp(-math.log(10_000) * torch.arange(half, device=time.device) / half)
        angles = 1000.0 * time.float()[:, None] * frequencies
        features = torch.cat([angles.cos(), angles.sin()], dim=-1)
        embedding = self.embed(features.to(self.modulation.weight.dtype))
        return embedding[:, None], self.modulation(F.silu(embedding)).unflatten(-1, (6, -1))


class ModulationTable(nn.Module):
    """One block's learned offsets (rows, D) to the shared modulation vectors, for one hidden size."""

    def __init__(self, rows: int, hidden: int) -> None:
        super().__init__()
        self.offsets = nn.Parameter(torch.zeros(rows, hidden))

    def init_gates(self) -> None:
        """Initialize rows 2 and 5, the gates of the attention and the feed-forward branch, to 1."""
        with torch.no_grad():
            self.offsets[[2, 5]] = 1.0


class DiTBlock(nn.Module):
    """Modulated self-attention, cross-attention and a modulated feed-forward layer, each with a residual (Fig. 2)."""

    def __init__(self, spec: DiTSpec, level: Level) -> None:
        super().__init__()
        self.attention = build_self_attention(spec.width, spec.head_dim, level.attention)
        self.cross = CrossAttention(spec.width, spec.head_dim, spec.text_width, spec.text_kv_heads)
        self.ffn = FeedForward(spec.width, level.ffn_ratio)
        hidden_sizes = [spec.hidden_size(width) for width in spec.widths]
        self.tables = WidthSpecific({str(hidden): ModulationTable(6, hidden) for hidden in hidden_sizes})

    def forward(
        self,
        x: Tensor,
        grid: Grid,
        cos_sin: CosSin,
        modulation: Tensor,
        text: Tensor,
        mask: Tensor,
    ) -> Tensor:
        """Apply the block.

        Args:
            x: Image tokens (B, N, D).
            grid: Height and width of the token grid.
            cos_sin: RoPE angles of the grid.
            modulation: Shared modulation vectors (B, 6, D).
            text: Text tokens (B, L, text width).
            mask: Mask (B, L), True where a text token is visible.

        Returns:
            Image tokens (B, N, D).
        """
        table = self.tables.for_hidden_size(x.shape[-1])
        assert isinstance(table, ModulationTable)
        shift1, scale1, gate1, shift2, scale2, gate2 = (modulation + table.offsets).unsqueeze(2).unbind(1)
        x = x + gate1 * self.attention(modulate(x, shift1, scale1), grid, cos_sin)
        x = x + self.cross(x, text, mask)
        return x + gate2 * self.ffn(modulate(x, shift2, scale2))


class LongSkip(nn.Module):
    """Long skip connection of U-ViT.

    U-ViT applies a linear layer to the two streams concatenated along the channels. Here, the layer is written as a
    sum of two, so that both can be sliced.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stream = ElasticLinear(width, width)
        self.skip = ElasticLinear(width, width, bias=False)

    def forward(self, x: Tensor, earlier: Tensor) -> Tensor:
        """Combine the stream x and the output of an earlier block, both (B, N, D), to (B, N, D)."""
        return self.stream(x, out_features=x.shape[-1]) + self.skip(earlier, out_features=x.shape[-1])


class DiTLevel(nn.Module):
    """The blocks of one level, with long skips if its specification has them."""

    def __init__(self, spec: DiTSpec, level: Level) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(DiTBlock(spec, level) for _ in range(level.depth))
        skips = level.depth // 2 if level.long_skips else 0
        self.skips = nn.ModuleList(LongSkip(spec.width) for _ in range(skips))
        self.gradient_checkpointing = False

    def forward(self, x: Tensor, *context: object) -> Tensor:
        """Map x (B, N, D) to (B, N, D). ``context`` is the remaining arguments of ``DiTBlock.forward``."""
        earlier: list[Tensor] = []
        first_skipped = len(self.blocks) - len(self.skips)
        for index, block in enumerate(self.blocks):
            if index >= first_skipped:
                x = self.skips[index - first_skipped](x, earlier.pop())
            if self.gradient_checkpointing and torch.is_grad_enabled():
                x = checkpoint(block, x, *context, use_reentrant=False)
            else:
                x = block(x, *context)
            if index < len(self.skips):
                earlier.append(x)
        return x
