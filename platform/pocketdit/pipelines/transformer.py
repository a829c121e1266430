"""The network as a diffusers model."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal, Self

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.loaders import PeftAdapterMixin
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from torch import Tensor

from pocketdit.backbones.dit import ElasticDiT
from pocketdit.backbones.elastic_lora import slice_adapters
from pocketdit.backbones.per_width import Network, PerWidthNetworks, split_by_width
from pocketdit.backbones.spec import FULL_WIDTH, AdaptiveSparseAttention, AttentionSpec, DiTSpec, FullAttention, Level
from pocketdit.encoders.contract import TextTokens

NETWORK_PREFIX = "network."
"""Prefix of every weight's name. The rest of the name is the same as in ``Network``."""


class PocketDiTTransformer2DModel(ModelMixin, ConfigMixin, PeftAdapterMixin):
    """A supernet, or one standalone network per width, as a model that diffusers saves and loads.

    The arguments are those of ``DiTSpec``, as values that JSON can represent.

    Args:
        separate_widths: Whether each width has its own weights, rather than a slice of the supernet's weights.
    """

    _no_split_modules = ("DiTBlock",)
    _repeated_blocks = ("DiTBlock",)
    _supports_gradient_checkpointing = False

    @register_to_config
    def __init__(
        self,
        latent_channels: int,
        width: int,
        head_dim: int,
        text_inputs: Sequence[int],
        text_width: int,
        text_kv_heads: int,
        levels: Sequence[Mapping[str, Any]],
        widths: Sequence[float] = (FULL_WIDTH,),
        patch_size: int = 2,
        rope_theta: float = 10_000.0,
        frequency_width: int = 256,
        latent_std: Sequence[float] = (),
        query_groups: Literal["adjacent", "interleaved"] = "adjacent",
        separate_widths: bool = False,
    ) -> None:
        super().__init__()
        self.spec = DiTSpec(
            latent_channels=latent_channels,
            width=width,
            head_dim=head_dim,
            text_inputs=tuple(text_inputs),
            text_width=text_width,
            text_kv_heads=text_kv_heads,
            levels=tuple(level_from_config(level) for level in levels),
            widths=tuple(widths),
            patch_size=patch_size,
            rope_theta=rope_theta,
            frequency_width=frequency_width,
            latent_std=tuple(latent_std),
            query_groups=query_groups,
        )
        supernet = ElasticDiT(self.spec)
        self.network: Network = split_by_width(supernet, share_weights=False) if separate_widths else supernet
        self.active_width = max(self.spec.widths)

    @classmethod
    def from_network(cls, network: Network) -> Self:
        """Create a model that shares the weights of a network."""
        config = {**asdict(network.spec), "separate_widths": isinstance(network, PerWidthNetworks)}
        with torch.device("meta"):
            model: Self = cls(**config)
        model.network = network
        model.requires_grad_(False).eval()
        return model

    def set_width(self, width: float) -> None:
        """Select the sub-network that forward passes use. This neither copies nor frees any weights.

        Raises:
            ValueError: The network does not have this width.
        """
        self.spec.hidden_size(width)
        self.active_width = width

    def load_lora_adapter(self, *arguments: Any, **options: Any) -> None:
        """Load a LoRA as ``PeftAdapterMixin`` does. A LoRA loaded into a supernet adapts every width."""
        super().load_lora_adapter(*arguments, **options)
        slice_adapters(self.network)

    def forward(
        self,
        hidden_states: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Sequence[Tensor],
        encoder_attention_mask: Sequence[Tensor],
        return_dict: bool = True,
    ) -> Transformer2DModelOutput | tuple[Tensor]:
        """Predict the velocity with the sub-network that ``set_width`` has selected.

        In half precision, the matrix products use the dtype of the weights, and everything else uses float32.

        Args:
            hidden_states: Noisy latents (B, C, h, w), float32.
            timestep: Times (B,) in [0, 1], where 0 is data.
            encoder_hidden_states: Embeddings (B, L, width) from each text encoder, float32.
            encoder_attention_mask: Masks (B, L), True where a token is visible.
            return_dict: Whether to return an output object rather than a tuple.

        Returns:
            The velocity (B, C, h, w), float32.
        """
        text = [TextTokens(*pair) for pair in zip(encoder_hidden_states, encoder_attention_mask, strict=True)]
        half = self.dtype in (torch.bfloat16, torch.float16)
        with torch.autocast(hidden_states.device.type, self.dtype if half else None, enabled=half):
            velocity = self.network(hidden_states, timestep, text, width=self.active_width).float()
        return Transformer2DModelOutput(sample=velocity) if return_dict else (velocity,)


def level_from_config(values: Mapping[str, Any]) -> Level:
    """Restore a level from plain values."""
    return Level(**{**values, "attention": attention_from_config(values["attention"])})


def attention_from_config(values: Mapping[str, Any]) -> AttentionSpec:
    """Restore the specification of self-attention from plain values.

    Raises:
        ValueError: The kind of attention is unknown.
    """
    match values["kind"]:
        case "full":
            return FullAttention(**values)
        case "assa":
            return AdaptiveSparseAttention(**values)
        case other:
            raise ValueError(f"unknown kind of attention: {other!r}")
