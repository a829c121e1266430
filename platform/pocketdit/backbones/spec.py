"""Specification of a backbone's architecture: levels, depths, widths, and kinds of attention.

The specifications can describe every model in Fig. 3 of the paper, from SnapGen's U-Net and the PixArt-style baseline
to the elastic three-stage supernet. This file does not import torch, so a configuration can be validated in
milliseconds.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Literal, TypeAlias

from pocketdit.bounds import Between, check_bounds

FULL_WIDTH = 1.0

NORM_GROUPS = 32
"""Number of groups in the U-Net's group norms. Every number of channels must be a multiple of it."""

Channels = Annotated[int, Between(1, 65_536)]
Std = Annotated[float, Between(1e-6, 1e6)]


@dataclass(frozen=True)
class FullAttention:
    """Softmax attention over all tokens with grouped queries.

    Attributes:
        kind: The tag that selects this class in YAML.
        kv_heads: Number of key/value heads, which must divide the number of query heads at every width. A value of 1
            results in multi-query attention.
    """

    kind: Literal["full"]
    kv_heads: Channels


@dataclass(frozen=True)
class AdaptiveSparseAttention:
    """Adaptive sparse self-attention, ASSA (paper Sec. 3.1 C).

    A global branch attends to 2x2-compressed keys and values, a local branch performs blockwise neighborhood
    attention, and a learned gate interpolates between the two.

    Attributes:
        kind: The tag that selects this class in YAML.
        kv_heads: Number of key/value heads, which must divide the number of query heads at every width.
        blocks: Number of blocks into which the raster-ordered tokens are divided, B in Eq. 2. If B does not divide the
            number of tokens, the first blocks have one more token than the others.
        radius: Neighborhood radius in blocks, r in Eq. 3.
        compression: Whether to include the global branch. Without it, the layer is plain blockwise neighborhood
            attention and has no gate.
    """

    kind: Literal["assa"]
    kv_heads: Channels
    blocks: Channels = 16
    radius: Annotated[int, Between(0, 65_536)] = 1
    compression: bool = True

    def __post_init__(self) -> None:
        check_bounds(self)


AttentionSpec: TypeAlias = FullAttention | AdaptiveSparseAttention
"""All kinds of self-attention. Handle them with a ``match`` that ends in ``assert_never``."""


@dataclass(frozen=True)
class Level:
    """A sequence of identical transformer blocks at one resolution.

    Attributes:
        depth: Number of blocks.
        attention: Type of self-attention in every block.
        ffn_ratio: Inner size of the feed-forward layer divided by the hidden size.
        scale: 1 for patch tokens, 2 for tokens merged 2x2.
        long_skips: Whether the output of block i is also fed to block ``depth`` - 1 - i of the same level (U-ViT).
    """

    depth: Annotated[int, Between(1, 1000)]
    attention: AttentionSpec
    ffn_ratio: Annotated[float, Between(1e-3, 64)] = 4.0
    scale: Literal[1, 2] = 1
    long_skips: bool = False

    def __post_init__(self) -> None:
        check_bounds(self)


@dataclass(frozen=True)
class DiTSpec:
    """The architecture of an elastic diffusion transformer.

    Attributes:
        latent_channels: Channels of the autoencoder's latents.
        width: Hidden size of the full network.
        head_dim: Channels per attention head, a multiple of 4.
        text_inputs: Embedding width of each text encoder, in the order of ``text_encoders``. All embeddings are
            projected to ``text_width``, and the tokens of all encoders are concatenated.
        text_width: Width of the text tokens that cross-attention reads.
        text_kv_heads: Key/value heads of cross-attention. The key and value projections are shared by all widths and
            never sliced (paper Sec. 3.2).
        levels: Either one level or three levels: down (scale 1), middle (scale 2), and up (scale 1).
        widths: Hidden sizes of the sub-networks as fractions of ``width``. The full network (1.0) must be included if
            the widths are trained together, but not if a single width is trained further.
        patch_size: Side of a patch in latent positions.
        rope_theta: Base of the rotary position embedding.
        frequency_width: Number of sine and cosine features that the time embedding takes as input, an even number.
        latent_std: Standard deviation of the latents in each channel. If set, the network is preconditioned (after
            Karras et al. 2022, "EDM", Table 1): its input has unit variance at every time, and its output corrects the
            best linear estimate of the velocity. A narrow network then does not need to pass all of a patch's noise
            through its hidden layers.
        query_groups: How the H query heads are assigned to the G key/value heads. With "adjacent", the usual choice,
            query head h uses key/value head h // (H / G), which can differ between a sub-network and the full network.
            With "interleaved", query head h uses key/value head h mod G, which is the same at every width.
    """

    latent_channels: Channels
    width: Channels
    head_dim: Channels
    text_inputs: tuple[Channels, ...]
    text_width: Channels
    text_kv_heads: Channels
    levels: tuple[Level, ...]
    widths: tuple[float, ...] = (FULL_WIDTH,)
    patch_size: Annotated[int, Between(1, 64)] = 2
    rope_theta: Annotated[float, Between(1, 1e9)] = 10_000.0
    frequency_width: Channels = 256
    latent_std: tuple[Std, ...] = ()
    query_groups: Literal["adjacent", "interleaved"] = "adjacent"

    def __post_init__(self) -> None:
        check_bounds(self)
        if len(self.levels) not in (1, 3):
            raise ValueError("levels must contain one level, or three: down, middle, and up")
        if [level.scale for level in self.levels] not in ([1], [1, 2, 1]):
            raise ValueError("levels must have the scales [1] or [1, 2, 1]")
        if not self.widths or sorted(set(self.widths)) != sorted(self.widths):
            raise ValueError("widths must contain at least one fraction and no duplicates")
        if self.latent_std and (len(self.latent_std) != self.latent_channels or min(self.latent_std) <= 0):
            raise ValueError(f"latent_std must be {self.latent_channels} positive numbers, one per latent channel")
        if self.head_dim % 4:
            raise ValueError("head_dim must be a multiple of 4 for two-dimensional RoPE")
        if self.frequency_width % 2:
            raise ValueError("frequency_width must be even, because half of the features are sines")
        for fraction in self.widths:
            self._check_width(fraction)

    def _check_width(self, fraction: float) -> None:
        if not 0 < fraction <= 1:
            raise ValueError(f"width {fraction} is not in (0, 1]")
        size = self.width * fraction
        if size % self.head_dim:
            raise ValueError(
                f"width {fraction} of {self.width} is {size:g}, which is not a multiple of head_dim {self.head_dim}"
            )
        heads = int(size) // self.head_dim
        for kv_heads in {self.text_kv_heads, *(level.attention.kv_heads for level in self.levels)}:
            if kv_heads < 1 or heads % kv_heads:
                raise ValueError(
                    f"width {fraction} has {heads} query heads, which is not a multiple of "
                    f"the {kv_heads} key/value heads"
                )

    def hidden_size(self, width: float) -> int:
        """Return the hidden size of a sub-network, given its fraction of the full width.

        Raises:
            ValueError: The network does not have this width.
        """
        if width not in self.widths:
            raise ValueError(f"this network has no width {width}; its widths are {', '.join(map(str, self.widths))}")
        return round(self.width * width)

    @property
    def latent_multiple(self) -> int:
        """Both sides of the latents must be multiples of this number."""
        return self.patch_size * max(level.scale for level in self.levels)

    def standalone(self, width: float) -> "DiTSpec":
        """Return the specification of a sub-network as a standalone network.

        Raises:
            ValueError: The network does not have this width.
        """
        return replace(self, width=self.hidden_size(width), widths=(FULL_WIDTH,))


@dataclass(frozen=True)
class UNetSpec:
    """The architecture of SnapGen's U-Net, which has a single width.

    With the defaults and CLIP-L as the text encoder, the network has 377 M parameters. The paper reports 372 M.

    Attributes:
        kind: The tag that selects this class in YAML.
        latent_channels: Channels of the autoencoder's latents.
        text_inputs: Embedding width of each text encoder, in the order of ``text_encoders``.
        text_width: Width of the text tokens that cross-attention reads.
        channels: Channels at each resolution, from high to low. Each resolution has half the height and width of the
            previous resolution.
        transformer_layers: Number of transformer layers after each residual block, one value per resolution.
        head_dim: Channels per attention head. All heads share one key/value head.
        ffn_ratio: Inner size of the gated feed-forward layers divided by the number of channels.
        keep_residual: Whether transformer layers without self-attention keep their residual stream. In DreamLite, the
            normalized stream replaces it.
        latent_std: See ``DiTSpec``.
    """

    kind: Literal["unet"]
    latent_channels: Channels
    text_inputs: tuple[Channels, ...]
    text_width: Channels
    channels: tuple[Channels, ...] = (256, 512, 896)
    transformer_layers: tuple[Annotated[int, Between(1, 100)], ...] = (1, 2, 4)
    head_dim: Channels = 64
    ffn_ratio: Annotated[int, Between(1, 64)] = 3
    keep_residual: bool = False
    latent_std: tuple[Std, ...] = ()

    def __post_init__(self) -> None:
        check_bounds(self)
        if not 2 <= len(self.channels) <= 6:
            raise ValueError("channels must contain two to six numbers, one per resolution")
        if len(self.transformer_layers) != len(self.channels):
            raise ValueError("transformer_layers must contain as many numbers as channels")
        for size in self.channels:
            if size % NORM_GROUPS or size % self.head_dim:
                raise ValueError(
                    f"channels must be multiples of {NORM_GROUPS} and of head_dim {self.head_dim}, but {size} is not"
                )
        if self.latent_std and (len(self.latent_std) != self.latent_channels or min(self.latent_std) <= 0):
            raise ValueError(f"latent_std must be {self.latent_channels} positive numbers, one per latent channel")

    @property
    def widths(self) -> tuple[float, ...]:
        """The single width."""
        return (FULL_WIDTH,)

    @property
    def patch_size(self) -> int:
        """Side of a patch in latent positions. The U-Net has no patches."""
        return 1

    def hidden_size(self, width: float) -> int:
        """Return the number of channels at the lowest resolution.

        Raises:
            ValueError: The width is not 1.
        """
        if width != FULL_WIDTH:
            raise ValueError(f"this network has no width {width}; its only width is {FULL_WIDTH}")
        return self.channels[-1]

    @property
    def latent_multiple(self) -> int:
        """Both sides of the latents must be multiples of this number."""
        return 1 << (len(self.channels) - 1)

    def standalone(self, width: float) -> "UNetSpec":
        """Return this specification.

        Raises:
            ValueError: The width is not 1.
        """
        self.hidden_size(width)
        return self


BackboneSpec: TypeAlias = DiTSpec | UNetSpec
"""All backbone architectures. In YAML, a specification without ``kind`` is a ``DiTSpec``."""
