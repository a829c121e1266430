"""The elastic three-stage diffusion transformer (paper Fig. 2).

Shape letters: B = batch, C = latent channels, h x w = latent sides, N = image tokens, L = text tokens,
D = hidden size.
"""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pocketdit.backbones.attention import (
    AdaptiveSparseSelfAttention,
    CrossAttention,
    FeedForward,
    Grid,
    SelfAttention,
)
from pocketdit.backbones.block import DiTBlock, DiTLevel, LongSkip, ModulationTable, TimeEmbedding, modulate
from pocketdit.backbones.elastic import Downsample, ElasticLinear, Upsample, WidthSpecific
from pocketdit.backbones.position import axial_rope, positional_embedding
from pocketdit.backbones.spec import FULL_WIDTH, DiTSpec
from pocketdit.encoders.contract import TextTokens


def precondition(time: Tensor, std: Sequence[float]) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the preconditioning factors c_in, c_skip, and c_out (after Karras et al. 2022, "EDM", Table 1).

    With a network F, the predicted velocity is v = c_skip x_t + c_out F(c_in x_t).

    Let x_t = (1 - t) x_0 + t e and v = e - x_0, where a channel of x_0 has standard deviation s and e has standard
    deviation 1. Then Var x_t = (1 - t)^2 s^2 + t^2, the best linear estimate of v is x_t (t - (1 - t) s^2) / Var x_t,
    and its error has standard deviation s / sqrt(Var x_t). The three factors are 1 / sqrt(Var x_t), the coefficient of
    the estimate, and the standard deviation of its error.

    Args:
        time: Times (B,).
        std: Standard deviation of the latents in each of the C channels.

    Returns:
        c_in, c_skip, and c_out, each (B, C, 1, 1).
    """
    t, s = time[:, None, None, None], time.new_tensor(std)[:, None, None]
    variance = ((1 - t) * s).square() + t.square()
    return variance.rsqrt(), (t - (1 - t) * s.square()) / variance, s * variance.rsqrt()


class TextProjection(nn.Module):
    """Projects the tokens of all text encoders to a common width and appends them to a learned null token.

    The null token is always visible. If the tokens of all encoders are masked out, only the null token remains, and the
    prediction is unconditional.

    Args:
        inputs: Embedding width of each text encoder.
        width: Width of the projected tokens.
    """

    def __init__(self, inputs: Sequence[int], width: int) -> None:
        super().__init__()
        self.project = nn.ModuleList(nn.Linear(size, width) for size in inputs)
        self.norm = nn.ModuleList(nn.LayerNorm(width) for _ in inputs)
        self.null = nn.Parameter(torch.zeros(1, 1, width))

    def forward(self, text: Sequence[TextTokens]) -> tuple[Tensor, Tensor]:
        """Map one ``TextTokens`` per encoder to tokens (B, 1 + L, width) and their mask (B, 1 + L)."""
        if len(text) != len(self.project):
            raise ValueError(f"got {len(text)} text encodings for a network with {len(self.project)} text encoders")
        batch = text[0].embeddings.shape[0]
        tokens = [self.null.expand(batch, -1, -1)]
        masks = [torch.ones(batch, 1, dtype=torch.bool, device=self.null.device)]
        for project, norm, (embeddings, mask) in zip(self.project, self.norm, text, strict=True):
            tokens.append(norm(project(embeddings)))
            masks.append(mask)
        return torch.cat(tokens, dim=1), torch.cat(masks, dim=1)


class ElasticDiT(nn.Module):
    """Predicts the rectified-flow velocity v(x_t, t, text) at any width in its specification.

    The network does not depend on noise schedules, guidance, or training.
    """

    def __init__(self, spec: DiTSpec) -> None:
        super().__init__()
        self.spec = spec
        hidden_sizes = [spec.hidden_size(width) for width in spec.widths]
        patch = spec.patch_size**2 * spec.latent_channels
        self.embed = ElasticLinear(patch, spec.width)
        self.time = WidthSpecific({str(hidden): TimeEmbedding(spec.frequency_width, hidden) for hidden in hidden_sizes})
        self.text = TextProjection(spec.text_inputs, spec.text_width)
        self.stages = nn.ModuleList(DiTLevel(spec, level) for level in spec.levels)
        if len(spec.levels) == 3:
            self.down, self.up = Downsample(spec.width), Upsample(spec.width)
        self.final_tables = WidthSpecific({str(hidden): ModulationTable(2, hidden) for hidden in hidden_sizes})
        self.unembed = ElasticLinear(spec.width, patch)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialize every block to the identity and the output to zero."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                init_linear(module)
        for module in self.modules():
            init_identity(module)
        nn.init.normal_(self.text.null, std=1.0)
        nn.init.zeros_(self.unembed.weight)

    def blocks(self) -> Iterator[DiTBlock]:
        """Yield the transformer blocks of all levels in the order of the forward pass."""
        for level in self.stages:
            assert isinstance(level, DiTLevel)
            for block in level.blocks:
                assert isinstance(block, DiTBlock)
                yield block

    def use_gradient_checkpointing(self, on: bool = True) -> None:
        """Set whether to store only the blocks' inputs for the backward pass and recompute everything else."""
        for level in self.stages:
            assert isinstance(level, DiTLevel)
            level.gradient_checkpointing = on

    def forward(self, x: Tensor, time: Tensor, text: Sequence[TextTokens], width: float = FULL_WIDTH) -> Tensor:
        """Predict the velocity.

        Args:
            x: Noisy latents x_t, (B, C, h, w).
            time: Times (B,) in [0, 1], where 0 is data.
            text: One ``TextTokens`` per text encoder.
            width: Width of the sub-network to run, as a fraction of the full width.

        Returns:
            Velocity (B, C, h, w).

        Raises:
            ValueError: h or w is not a multiple of ``spec.latent_multiple``, or the network does not have this width.
        """
        return self._forward(x, time, text, width)[0]

    def forward_with_features(
        self, x: Tensor, time: Tensor, text: Sequence[TextTokens], width: float = FULL_WIDTH
    ) -> tuple[Tensor, Tensor]:
        """Predict the velocity like ``forward`` and also return the features used in Eq. 7.

        Returns:
            Velocity (B, C, h, w), and the output (B, N, D) of the last transformer block in raster order.
        """
        return self._forward(x, time, text, width)

    # FSDP2 wraps both public methods in hooks, so neither of them can call the other.
    def _forward(self, x: Tensor, time: Tensor, text: Sequence[TextTokens], width: float) -> tuple[Tensor, Tensor]:
        hidden = self.spec.hidden_size(width)
        rows, columns = x.shape[-2:]
        if rows % self.spec.latent_multiple or columns % self.spec.latent_multiple:
            raise ValueError(f"latent sides {rows}x{columns} must be multiples of {self.spec.latent_multiple}")
        patch = self.spec.patch_size
        grid = (rows // patch, columns // patch)
        embedding, modulation = self.time.for_hidden_size(hidden)(time)
        tokens, mask = self.text(text)

        preconditioned = bool(self.spec.latent_std)
        if preconditioned:
            c_in, c_skip, c_out = precondition(time, self.spec.latent_std)
        patches = F.pixel_unshuffle(c_in * x if preconditioned else x, patch).flatten(2).transpose(1, 2)
        h = self.embed(patches, out_features=hidden) + positional_embedding(*grid, hidden, x.device).to(patches.dtype)
        h = self._run_levels(h, grid, modulation, tokens, mask)
        table = self.final_tables.for_hidden_size(hidden)
        assert isinstance(table, ModulationTable)
        shift, scale = (embedding + table.offsets).chunk(2, dim=1)
        out = self.unembed(modulate(h, shift, scale))
        output = F.pixel_shuffle(torch.unflatten(out.transpose(1, 2), 2, grid), patch)
        return (c_skip * x + c_out * output if preconditioned else output), h

    def _run_levels(self, h: Tensor, grid: Grid, modulation: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        """Run the down, middle (half the resolution), and up levels, with a skip connection around the middle one."""
        spec = self.spec
        fine = axial_rope(*grid, spec.head_dim, spec.rope_theta, h.device)
        h = self.stages[0](h, grid, fine, modulation, text, mask)
        if len(self.stages) == 1:
            return h
        half_grid = (grid[0] // 2, grid[1] // 2)
        coarse = axial_rope(*half_grid, spec.head_dim, spec.rope_theta, h.device)
        middle = self.down(torch.unflatten(h.transpose(1, 2), 2, grid)).flatten(2).transpose(1, 2)
        middle = self.stages[1](middle, half_grid, coarse, modulation, text, mask)
        upsampled = self.up(torch.unflatten(middle.transpose(1, 2), 2, half_grid)).flatten(2).transpose(1, 2)
        h = self.stages[2](h + upsampled, grid, fine, modulation, text, mask)
        return h


def init_linear(layer: nn.Linear) -> None:
    """Draw the weights from the Xavier uniform distribution and set the bias to zero."""
    nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def init_identity(module: nn.Module) -> None:
    """Initialize a module so that every transformer block and long skip starts as the identity.

    Whereas adaLN-Zero sets the gate of each branch to zero, this function sets the last matrix of each branch to zero.
    The matrix then learns at the full learning rate from the first step. A closed gate would slow it down.

    Args:
        module: A module of the network. Modules that need no special initialization are left unchanged.
    """
    match module:
        case CrossAttention():
            nn.init.zeros_(module.out.weight)
        case SelfAttention():
            nn.init.zeros_(module.out.weight)
            module.init_locality()
            if isinstance(module, AdaptiveSparseSelfAttention):
                module.init_branches()
        case FeedForward():
            nn.init.zeros_(module.contract.weight)
        case DiTBlock():
            for table in module.tables.values():
                assert isinstance(table, ModulationTable)
                table.init_gates()
        case TimeEmbedding():
            nn.init.zeros_(module.modulation.weight)
        case LongSkip():
            nn.init.eye_(module.stream.weight)
            nn.init.zeros_(module.skip.weight)


def extract_subnetwork(network: ElasticDiT, width: float, share_weights: bool = False) -> ElasticDiT:
    """Build a standalone network that is equivalent to the supernet at one width.

    Each weight is the leading slice of the supernet's weight with the same name.

    Args:
        network: The supernet.
        width: Width of the sub-network, as a fraction of the full width.
        share_weights: Whether the weights are views of the supernet's weights instead of copies.
    """
    spec = network.spec.standalone(width)
    with torch.device("meta"):
        small = ElasticDiT(spec)
    weights = network.state_dict()
    parts = {name: weights[name][tuple(map(slice, value.shape))] for name, value in small.state_dict().items()}
    small.load_state_dict(parts if share_weights else {name: part.clone() for name, part in parts.items()}, assign=True)
    return small
