"""The elastic three-stage diffusion transformer (paper Fig. 2).

Shape letters: B batch, C latent channels, h x w latent sides, N tokens, L text tokens, D hidden size.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pocketdit.backbones.attention import (
    AdaptiveSparseSelfAttention,
    CrossAttention,
    FeedForward,
    Grid,
    SelfAttention,
    build_self_attention,
)
from pocketdit.backbones.elastic import Downsample, ElasticLinear, PerWidth, Upsample
from pocketdit.backbones.position import positional_embedding, rotation
from pocketdit.backbones.spec import FULL, DiTSpec, Level
from pocketdit.encoders.contract import TextTokens


def precondition(time: Tensor, std: Sequence[float]) -> tuple[Tensor, Tensor, Tensor]:
    """Factors (B, C, 1, 1) of x_t before the network, of x_t beside it, and of its output.

    For x_t = (1 - t) x_0 + t e and v = e - x_0, with x_0 of standard deviation s in a channel and e of 1:
    Var x_t = (1 - t)^2 s^2 + t^2, the best linear guess of v is x_t (t - (1 - t) s^2) / Var x_t, and what it
    misses has standard deviation s / sqrt(Var x_t). time (B,), std of each channel.
    """
    t, s = time[:, None, None, None], time.new_tensor(std)[:, None, None]
    variance = ((1 - t) * s).square() + t.square()
    return variance.rsqrt(), (t - (1 - t) * s.square()) / variance, s * variance.rsqrt()


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """LayerNorm without parameters, then scale and shift (adaLN). x (B, N, D), shift and scale (B, 1, D)."""
    return F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift


class TimeEmbedding(nn.Module):
    """Time in [0, 1] -> an embedding (B, D) and the six modulation vectors shared by all blocks (adaLN-single)."""

    def __init__(self, frequencies: int, hidden: int) -> None:
        super().__init__()
        self.frequencies = frequencies
        self.embed = nn.Sequential(nn.Linear(frequencies, hidden), nn.SiLU(), nn.Linear(hidden, hidden))
        self.modulation = nn.Linear(hidden, 6 * hidden)

    def forward(self, time: Tensor) -> tuple[Tensor, Tensor]:
        """time (B,) -> embedding (B, 1, D), modulation (B, 6, D)."""
        half = self.frequencies // 2
        # Angles in fp32 whatever the precision of the network (autocast leaves these operations alone): in fp16
        # cos(1000 t) is off by up to 0.2.
        rates = torch.exp(-math.log(10_000) * torch.arange(half, device=time.device) / half)
        angles = 1000.0 * time.float()[:, None] * rates
        waves = torch.cat([angles.cos(), angles.sin()], dim=-1)
        embedding = self.embed(waves.to(self.modulation.weight.dtype))
        return embedding[:, None], self.modulation(F.silu(embedding)).unflatten(-1, (6, -1))


class Table(nn.Module):
    """A block's own offsets (rows, D) to the shared modulation, for one hidden size."""

    def __init__(self, rows: int, hidden: int) -> None:
        super().__init__()
        self.offsets = nn.Parameter(torch.zeros(rows, hidden))

    def open_gates(self) -> None:
        """Rows 2 and 5, which scale what attention and FFN add, start at 1."""
        with torch.no_grad():
            self.offsets[[2, 5]] = 1.0


class Block(nn.Module):
    """Modulated self-attention, cross-attention, modulated FFN, each on a residual (paper Fig. 2)."""

    def __init__(self, spec: DiTSpec, level: Level) -> None:
        super().__init__()
        self.attention = build_self_attention(spec.width, spec.head_dim, level.attention)
        self.cross = CrossAttention(spec.width, spec.head_dim, spec.text_width, spec.text_kv_heads)
        self.ffn = FeedForward(spec.width, level.ffn_ratio)
        self.tables = PerWidth({str(spec.hidden(w)): Table(6, spec.hidden(w)) for w in spec.widths})

    def forward(
        self,
        x: Tensor,
        grid: Grid,
        angles: tuple[Tensor, Tensor],
        modulation: Tensor,
        text: Tensor,
        mask: Tensor,
    ) -> Tensor:
        """x (B, N, D), modulation (B, 6, D), text (B, L, text width), mask (B, L) -> (B, N, D)."""
        table = self.tables.at(x.shape[-1])
        assert isinstance(table, Table)
        shift1, scale1, gate1, shift2, scale2, gate2 = (modulation + table.offsets).unsqueeze(2).unbind(1)
        x = x + gate1 * self.attention(modulate(x, shift1, scale1), grid, angles)
        x = x + self.cross(x, text, mask)
        return x + gate2 * self.ffn(modulate(x, shift2, scale2))


class LongSkip(nn.Module):
    """U-ViT's long skip: a linear map of the two streams side by side, written as a sum so that both slice."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stream = ElasticLinear(width, width)
        self.skip = ElasticLinear(width, width, bias=False)

    def forward(self, x: Tensor, earlier: Tensor) -> Tensor:
        """Both (B, N, D)."""
        return self.stream(x, out_features=x.shape[-1]) + self.skip(earlier, out_features=x.shape[-1])


class Stage(nn.Module):
    """The blocks of one level, with its long skips where the level has them."""

    def __init__(self, spec: DiTSpec, level: Level) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(spec, level) for _ in range(level.depth))
        skips = level.depth // 2 if level.long_skips else 0
        self.skips = nn.ModuleList(LongSkip(spec.width) for _ in range(skips))
        self.gradient_checkpointing = False

    def forward(self, x: Tensor, *context: object) -> Tensor:
        """x (B, N, D); ``context`` is what every block is given besides."""
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


class TextProjection(nn.Module):
    """Every encoder's tokens to one width, concatenated along the tokens, behind one learned token.

    The learned token is always visible: with every encoder dropped it is the unconditional text.
    """

    def __init__(self, inputs: Sequence[int], width: int) -> None:
        super().__init__()
        self.project = nn.ModuleList(nn.Linear(size, width) for size in inputs)
        self.norm = nn.ModuleList(nn.LayerNorm(width) for _ in inputs)
        self.null = nn.Parameter(torch.zeros(1, 1, width))

    def forward(self, text: Sequence[TextTokens]) -> tuple[Tensor, Tensor]:
        """One ``TextTokens`` an encoder -> tokens (B, 1 + L, width), mask (B, 1 + L)."""
        if len(text) != len(self.project):
            raise ValueError(f"{len(text)} text encodings for a network built for {len(self.project)}")
        batch = text[0].embeddings.shape[0]
        tokens = [self.null.expand(batch, -1, -1)]
        masks = [torch.ones(batch, 1, dtype=torch.bool, device=self.null.device)]
        for project, norm, (embeddings, mask) in zip(self.project, self.norm, text, strict=True):
            tokens.append(norm(project(embeddings)))
            masks.append(mask)
        return torch.cat(tokens, dim=1), torch.cat(masks, dim=1)


class ElasticDiT(nn.Module):
    """Velocity of rectified flow, v(x_t, t, text), at any of the widths in the description.

    The network knows nothing of noise schedules, guidance or training.
    """

    def __init__(self, spec: DiTSpec) -> None:
        super().__init__()
        self.spec = spec
        hidden = [spec.hidden(fraction) for fraction in spec.widths]
        patch = spec.patch_size**2 * spec.latent_channels
        self.embed = ElasticLinear(patch, spec.width)
        self.time = PerWidth({str(size): TimeEmbedding(spec.frequency_width, size) for size in hidden})
        self.text = TextProjection(spec.text_inputs, spec.text_width)
        self.stages = nn.ModuleList(Stage(spec, level) for level in spec.levels)
        if len(spec.levels) == 3:
            self.down, self.up = Downsample(spec.width), Upsample(spec.width)
        self.final_tables = PerWidth({str(size): Table(2, size) for size in hidden})
        self.unembed = ElasticLinear(spec.width, patch)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Every block starts as the identity and the output as zero.

        The zeros stand in the last matrix of each branch, not in the gates (as adaLN-Zero has them): a matrix
        moves with its full learning rate from the first step, where closed gates would hold it back.
        """
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for module in self.modules():
            match module:
                case CrossAttention():
                    nn.init.zeros_(module.out.weight)
                case SelfAttention():
                    nn.init.zeros_(module.out.weight)
                    module.start_local()
                    if isinstance(module, AdaptiveSparseSelfAttention):
                        module.reset_branches()
                case FeedForward():
                    nn.init.zeros_(module.contract.weight)
                case Block():
                    for table in module.tables.values():
                        assert isinstance(table, Table)
                        table.open_gates()
                case TimeEmbedding():
                    nn.init.zeros_(module.modulation.weight)
                case LongSkip():
                    nn.init.eye_(module.stream.weight)
                    nn.init.zeros_(module.skip.weight)
        nn.init.normal_(self.text.null, std=1.0)
        nn.init.zeros_(self.unembed.weight)

    def blocks(self) -> Iterator[nn.Module]:
        """Yield the transformer blocks of all levels, in the order of the forward pass."""
        for stage in self.stages:
            assert isinstance(stage, Stage)
            yield from stage.blocks

    def use_gradient_checkpointing(self, on: bool = True) -> None:
        """Keep only the blocks' inputs for the backward pass and compute the rest again."""
        for stage in self.stages:
            assert isinstance(stage, Stage)
            stage.gradient_checkpointing = on

    def forward(self, x: Tensor, time: Tensor, text: Sequence[TextTokens], width: float = FULL) -> Tensor:
        """x (B, C, h, w), time (B,) in [0, 1], one ``TextTokens`` an encoder -> velocity (B, C, h, w).

        Raises ``ValueError`` where h or w is not a multiple of ``spec.multiple`` or the width is unknown.
        """
        return self.predict(x, time, text, width)[0]

    def with_features(
        self, x: Tensor, time: Tensor, text: Sequence[TextTokens], width: float = FULL
    ) -> tuple[Tensor, Tensor]:
        """The velocity as ``forward`` gives it, and the last transformer layer's output (B, N, D) in raster order."""
        return self.predict(x, time, text, width)

    def predict(self, x: Tensor, time: Tensor, text: Sequence[TextTokens], width: float) -> tuple[Tensor, Tensor]:
        hidden = self.spec.hidden(width)
        height, breadth = x.shape[-2:]
        if height % self.spec.multiple or breadth % self.spec.multiple:
            raise ValueError(f"latent sides {height}x{breadth} must be multiples of {self.spec.multiple}")
        patch = self.spec.patch_size
        grid = (height // patch, breadth // patch)
        embedding, modulation = self.time.at(hidden)(time)
        tokens, mask = self.text(text)

        preconditioned = bool(self.spec.latent_std)
        if preconditioned:
            factor, guess, share = precondition(time, self.spec.latent_std)
        patches = F.pixel_unshuffle(factor * x if preconditioned else x, patch).flatten(2).transpose(1, 2)
        h = self.embed(patches, out_features=hidden) + positional_embedding(*grid, hidden, x.device).to(patches.dtype)
        h = self.run_stages(h, grid, modulation, tokens, mask)
        table = self.final_tables.at(hidden)
        assert isinstance(table, Table)
        shift, scale = (embedding + table.offsets).chunk(2, dim=1)
        out = self.unembed(modulate(h, shift, scale))
        estimate = F.pixel_shuffle(out.transpose(1, 2).unflatten(2, grid), patch)
        return (guess * x + share * estimate if preconditioned else estimate), h

    def run_stages(self, h: Tensor, grid: Grid, modulation: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        """Down, middle at half the sides, up; the down stage's output is added again before the up stage."""
        spec = self.spec
        fine = rotation(*grid, spec.head_dim, spec.rope_theta, h.device)
        h = self.stages[0](h, grid, fine, modulation, text, mask)
        if len(self.stages) == 1:
            return h
        half = (grid[0] // 2, grid[1] // 2)
        coarse = rotation(*half, spec.head_dim, spec.rope_theta, h.device)
        middle = self.down(h.transpose(1, 2).unflatten(2, grid)).flatten(2).transpose(1, 2)
        middle = self.stages[1](middle, half, coarse, modulation, text, mask)
        risen = self.up(middle.transpose(1, 2).unflatten(2, half)).flatten(2).transpose(1, 2)
        return self.stages[2](h + risen, grid, fine, modulation, text, mask)


def extract(network: ElasticDiT, width: float, share: bool = False) -> ElasticDiT:
    """A standalone network of one width, with the same output, and weights of its own unless they are shared.

    Every weight of it is the leading part of the supernet's weight of the same name: a copy, or with ``share`` a view.
    """
    spec = replace(network.spec, width=network.spec.hidden(width), widths=(FULL,))
    with torch.device("meta"):
        small = ElasticDiT(spec)
    weights = network.state_dict()
    parts = {name: weights[name][tuple(map(slice, value.shape))] for name, value in small.state_dict().items()}
    small.load_state_dict(parts if share else {name: part.clone() for name, part in parts.items()}, assign=True)
    return small
