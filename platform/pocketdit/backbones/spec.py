"""A diffusion transformer described as data: levels, depths, widths and attention kinds.

One description gives every model of the paper's Fig. 3, from the PixArt-style baseline to the elastic
three-stage supernet. This file imports nothing heavy, so that a configuration can be checked at once.
"""

from dataclasses import dataclass
from typing import Literal

FULL = 1.0


@dataclass(frozen=True)
class FullAttention:
    """Softmax attention over all tokens, with grouped queries.

    ``kv_heads``: key/value heads; 1 is multi-query attention, and the query heads of every width must be a
    multiple of it.
    """

    kind: Literal["full"]
    kv_heads: int


@dataclass(frozen=True)
class AdaptiveSparseAttention:
    """ASSA (paper Sec. 3.1 C): 2x2 KV compression and blockwise neighborhood attention, mixed by a gate.

    ``blocks``: number B of blocks that the raster-ordered tokens are divided into (Eq. 2); where B does not
    divide the token count the first blocks hold one token more. ``radius``: r of Eq. 3. ``compression``: without it
    the neighborhood attention stands alone, with no gate.
    """

    kind: Literal["assa"]
    kv_heads: int
    blocks: int = 16
    radius: int = 1
    compression: bool = True

    def __post_init__(self) -> None:
        if self.blocks < 1 or self.radius < 0:
            raise ValueError("blocks must be at least 1 and radius at least 0")


@dataclass(frozen=True)
class Level:
    """A run of equal transformer blocks at one resolution.

    ``scale``: 1 works on the patch tokens, 2 on tokens merged 2x2. ``long_skips``: block i hands its output to
    block depth-1-i of the same level (U-ViT).
    """

    depth: int
    attention: FullAttention | AdaptiveSparseAttention
    ffn_ratio: float = 4.0
    scale: Literal[1, 2] = 1
    long_skips: bool = False

    def __post_init__(self) -> None:
        if self.depth < 1:
            raise ValueError("depth must be at least 1")
        if self.ffn_ratio <= 0:
            raise ValueError("ffn_ratio must be positive")


@dataclass(frozen=True)
class DiTSpec:
    """The backbone. Either one level, or three: down (scale 1), middle (scale 2), up (scale 1).

    ``width``: hidden size of the full network. ``widths``: fractions of it that the sub-networks use; the full
    network (1.0) is one where they are trained together, and may be missing where one goes on alone.
    ``text_inputs``: embedding width of every text encoder, in the order of ``text_encoders``; each is projected to
    ``text_width`` and the tokens are concatenated. ``text_kv_heads``: key/value heads of cross-attention, whose
    projections are shared whole by all widths (paper Sec. 3.2).
    ``latent_std``: the latents' standard deviation in each channel. Where given, the network is preconditioned
    (after Karras et al. 2022, "EDM", Table 1): its input has unit variance at every time, and its output corrects
    the best linear guess of the velocity, so that a narrow network need not carry all the noise of a patch through
    its hidden size.
    """

    latent_channels: int
    width: int
    head_dim: int
    text_inputs: tuple[int, ...]
    text_width: int
    text_kv_heads: int
    levels: tuple[Level, ...]
    widths: tuple[float, ...] = (FULL,)
    patch_size: int = 2
    rope_theta: float = 10_000.0
    frequency_width: int = 256
    latent_std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if len(self.levels) not in (1, 3):
            raise ValueError("levels must be one level, or three: down, middle, up")
        if [level.scale for level in self.levels] not in ([1], [1, 2, 1]):
            raise ValueError("the scales of the levels must be 1, or 1, 2, 1")
        if not self.widths or sorted(set(self.widths)) != sorted(self.widths):
            raise ValueError("widths must hold at least one fraction, and none twice")
        if self.latent_std and (len(self.latent_std) != self.latent_channels or min(self.latent_std) <= 0):
            raise ValueError(f"latent_std must be {self.latent_channels} positive numbers, one a latent channel")
        if self.head_dim % 4:
            raise ValueError("head_dim must be a multiple of 4 for two-dimensional RoPE")
        for fraction in self.widths:
            if not 0 < fraction <= 1:
                raise ValueError(f"width {fraction} is not in (0, 1]")
            size = self.width * fraction
            if size % self.head_dim:
                raise ValueError(
                    f"width {fraction} of {self.width} is {size:g}, not a multiple of head_dim {self.head_dim}"
                )
            heads = int(size) // self.head_dim
            for groups in {self.text_kv_heads, *(level.attention.kv_heads for level in self.levels)}:
                if groups < 1 or heads % groups:
                    raise ValueError(
                        f"width {fraction} has {heads} query heads, which {groups} key/value heads do not divide"
                    )

    def hidden(self, fraction: float) -> int:
        """Hidden size of the sub-network of this width."""
        if fraction not in self.widths:
            raise ValueError(f"no width {fraction}: this network has {', '.join(map(str, self.widths))}")
        return round(self.width * fraction)

    @property
    def multiple(self) -> int:
        """Latent sides must be multiples of this."""
        return self.patch_size * max(level.scale for level in self.levels)
