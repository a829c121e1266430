"""The training form of a network as the transformer of a Core AI bundle.

In this form, attention and norms are single PyTorch operations, which Core AI keeps as composite operations. A
composite operation is a subgraph with a name, such as ``scaled_dot_product_attention``, and a device can replace it
with a single kernel. RoPE also becomes a composite operation, because Core AI's RoPE module takes its place.
"""

import torch
from coreai_torch import ExternalizeSpec
from coreai_torch.composite_ops import RoPE
from torch import Tensor, nn

from pocketdit.backbones.attention import SelfAttention
from pocketdit.backbones.dit import ElasticDiT
from pocketdit.mobile.weights import TEXT_PREFIX

COMPOSITES = (ExternalizeSpec(RoPE, "rope", ["scale", "base", "dims", "interleaved"]),)
"""Modules that become composite operations, with the name and the attributes that Core AI expects."""


class ProjectedText(nn.Module):
    """Replaces the text projection in a network that receives projected text."""

    def forward(self, text: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the tokens and the mask unchanged."""
        return text


class FusedTransformer(nn.Module):
    """A network in the training form, with the inputs of the mobile form.

    Args:
        network: Network of one width. Its weights are not copied.
    """

    def __init__(self, network: ElasticDiT) -> None:
        super().__init__()
        with torch.device("meta"):
            self.network = ElasticDiT(network.spec)
        self.network.add_module("text", ProjectedText())
        for module in self.network.modules():
            if isinstance(module, SelfAttention):
                module.rope = RoPE()
        weights = {name: v for name, v in network.state_dict().items() if not name.startswith(TEXT_PREFIX)}
        self.network.load_state_dict(weights, assign=True)
        self.requires_grad_(False).eval()

    def forward(self, latents: Tensor, time: Tensor, text: Tensor, text_bias: Tensor) -> Tensor:
        """Predict the velocity (B, C, h, w).

        Args:
            latents: Noisy latents (B, C, h, w).
            time: Time (B,) in [0, 1].
            text: Tokens (B, text width, 1, L) from ``MobileTextProjection``.
            text_bias: Bias (B, L, 1, 1) from ``MobileTextProjection``.
        """
        tokens, mask = text[:, :, 0].transpose(1, 2), text_bias[:, :, 0, 0]
        velocity: Tensor = self.network(latents, time, (tokens, mask))
        return velocity
