"""Transformer blocks, the levels built from them, and their modulation by the time embedding (paper Fig. 2).

Shape letters: B = batch, N = image tokens, L = text tokens, D = hidden size.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pocketdit.backbones.attention import CosSin, CrossAttention, FeedForward, Grid, build_self_attention
from pocketdit.backbones.elastic import ElasticLinear, WidthSpecific
from pocketdit.backbones.forms import AttentionForms, Chooser, first_form
from pocketdit.backbones.position import time_frequencies
from pocketdit.backbones.spec import DiTSpec, Level


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Apply a parameter-free LayerNorm, then scale and shift (adaLN).

    Args:
        x: Tokens (B, N, D).
        shift: Shift (B, 1, D).
        scale: Scale minus 1, (B, 1, D).

    Returns:
        Modulated tokens (B, N, D).
    """
    return F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift


class TimeEmbedding(nn.Module):
    """Embeds the time and computes the six modulation vectors shared by all blocks (PixArt's adaLN-single).

    Args:
        frequencies: Number of sinusoidal features, half of them sines and half cosines.
        hidden: Hidden size D. Each width has a separate module.
    """

    def __init__(self, frequencies: int, hidden: int) -> None:
        super().__init__()
        self.frequencies = frequencies
        self.embed = nn.Sequential(nn.Linear(frequencies, hidden), nn.SiLU(), nn.Linear(hidden, hidden))
        self.modulation = nn.Linear(hidden, 6 * hidden)

    def forward(self, time: Tensor) -> tuple[Tensor, Tensor]:
        """Map times (B,) in [0, 1] to an embedding (B, 1, D) and modulation vectors (B, 6, D)."""
        # Always compute the angles in fp32, because in fp16, cos(1000 t) would be off by up to 0.2. Autocast does not
        # affect these operations.
        frequencies = time_frequencies(self.frequencies // 2, time.device)
        angles = 1000.0 * time.float()[:, None] * frequencies
        features = torch.cat([angles.cos(), angles.sin()], dim=-1)
        embedding = self.embed(features.to(self.modulation.weight.dtype))
        return embedding[:, None], torch.unflatten(self.modulation(F.silu(embedding)), -1, (6, -1))


class ModulationTable(nn.Module):
    """Learned offsets (rows, D) that are added to shared modulation vectors, for one hidden size."""

    def __init__(self, rows: int, hidden: int) -> None:
        super().__init__()
        self.offsets = nn.Parameter(torch.zeros(rows, hidden))

    def init_gates(self) -> None:
        """Initialize rows 2 and 5, the gates of the attention and feed-forward branches, to 1."""
        with torch.no_grad():
            self.offsets[[2, 5]] = 1.0


class DiTBlock(nn.Module):
    """Modulated self-attention, cross-attention, and a modulated feed-forward layer, each in a residual branch."""

    def __init__(self, spec: DiTSpec, level: Level) -> None:
        super().__init__()
        self.attention = build_self_attention(spec.width, spec.head_dim, level.attention)
        self.cross = CrossAttention(spec.width, spec.head_dim, spec.text_width, spec.text_kv_heads)
        self.attention.interleaved = self.cross.interleaved = spec.query_groups == "interleaved"
        self.ffn = FeedForward(spec.width, level.ffn_ratio)
        hidden_sizes = [spec.hidden_size(width) for width in spec.widths]
        self.tables = WidthSpecific({str(hidden): ModulationTable(6, hidden) for hidden in hidden_sizes})

    def choose_forms(self, x: Tensor, text: Tensor, choose: Chooser) -> tuple[AttentionForms, AttentionForms]:
        """Choose the forms (implementations) of self-attention and cross-attention for inputs like x and text."""
        return self.attention.choose_forms(x, choose), self.cross.choose_forms(x, text, choose)

    def forward(
        self,
        x: Tensor,
        grid: Grid,
        cos_sin: CosSin,
        modulation: Tensor,
        text: Tensor,
        mask: Tensor,
        forms: tuple[AttentionForms, AttentionForms],
    ) -> Tensor:
        """Apply the block.

        Args:
            x: Image tokens (B, N, D).
            grid: Height and width of the token grid.
            cos_sin: Cosine and sine of the RoPE angles for the grid.
            modulation: Shared modulation vectors (B, 6, D).
            text: Text tokens (B, L, text width).
            mask: Mask (B, L), True where a text token is visible.
            forms: Forms of self-attention and of cross-attention, as returned by ``choose_forms``.

        Returns:
            Image tokens (B, N, D).
        """
        table = self.tables.for_hidden_size(x.shape[-1])
        assert isinstance(table, ModulationTable)
        # FSDP2 may gather the offsets in bf16. Under autocast, the sums of the residual branches must still be in fp32.
        if table.offsets.dtype != torch.float32 and torch.is_autocast_enabled(x.device.type):
            modulation = modulation.float()
        shift1, scale1, gate1, shift2, scale2, gate2 = (modulation + table.offsets).unsqueeze(2).unbind(1)
        x = x + gate1 * self.attention(modulate(x, shift1, scale1), grid, cos_sin, forms[0])
        x = x + self.cross(x, text, mask, forms[1])
        x = x + gate2 * self.ffn(modulate(x, shift2, scale2))
        return x


class LongSkip(nn.Module):
    """Long skip connection, as in U-ViT.

    U-ViT concatenates the two streams along the channels and applies a linear layer. Here, the linear layer is split
    into a sum of two layers, so that both can be sliced.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stream = ElasticLinear(width, width)
        self.skip = ElasticLinear(width, width, bias=False)

    def forward(self, x: Tensor, earlier: Tensor) -> Tensor:
        """Combine the stream x and the output of an earlier block, both (B, N, D), into (B, N, D)."""
        combined: Tensor = self.stream(x, out_features=x.shape[-1]) + self.skip(earlier, out_features=x.shape[-1])
        return combined


class DiTLevel(nn.Module):
    """The transformer blocks of one level, with long skip connections if its specification enables them.

    Attributes:
        choose: Selects the forms of attention.
    """

    def __init__(self, spec: DiTSpec, level: Level) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(DiTBlock(spec, level) for _ in range(level.depth))
        skips = level.depth // 2 if level.long_skips else 0
        self.skips = nn.ModuleList(LongSkip(spec.width) for _ in range(skips))
        self.gradient_checkpointing = False
        self.choose: Chooser = first_form

    def forward(self, x: Tensor, grid: Grid, cos_sin: CosSin, modulation: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        """Apply all blocks. The arguments have the same meaning as in ``DiTBlock.forward``.

        Returns:
            Image tokens (B, N, D).
        """
        first = self.blocks[0]
        assert isinstance(first, DiTBlock)
        context = (grid, cos_sin, modulation, text, mask, first.choose_forms(x, text, self.choose))
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
