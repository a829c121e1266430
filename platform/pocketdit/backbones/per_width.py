"""Standalone networks for the widths of a supernet, with the same interface as the supernet.

A supernet is split into standalone networks once its widths no longer share all weights. Step distillation trains a
separate LoRA for each width, and quantization fine-tunes a single width.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Self

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from pocketdit.backbones.dit import ElasticDiT, extract_subnetwork
from pocketdit.backbones.spec import FULL_WIDTH, DiTSpec
from pocketdit.backbones.unet import UNet
from pocketdit.encoders.contract import TextTokens

LORA_PREFIX = "lora."
"""Prefix of the names of LoRA weights in ``weights.safetensors``."""
ELASTIC = "elastic"
"""Replaces the hidden size in the names of LoRA weights that adapt every width of a supernet."""
NETWORKS_PREFIX = "networks."
"""Prefix of the names of all weights in ``PerWidthNetworks``."""


class PerWidthNetworks(nn.Module):
    """Standalone networks for the widths of a supernet.

    Args:
        spec: The supernet's specification.
        networks: Mapping from each width to its standalone network.
        shared: Whether the weights of the narrower networks are views of the widest network's weights. The views are
            preserved when the module is moved to another device or dtype.
    """

    def __init__(self, spec: DiTSpec, networks: Mapping[float, ElasticDiT], shared: bool = False) -> None:
        super().__init__()
        self.spec = spec
        self.shared = shared
        self.networks = nn.ModuleDict({str(spec.hidden_size(width)): network for width, network in networks.items()})

    def for_width(self, width: float) -> ElasticDiT:
        """Return the network for a width.

        Raises:
            ValueError: The supernet does not have this width.
        """
        network = self.networks[str(self.spec.hidden_size(width))]
        assert isinstance(network, ElasticDiT)
        return network

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Restore weight sharing after ``to`` and similar methods, which copy each parameter separately."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # not annotated in torch
        if self.shared:
            full = base_parameters(self.for_width(FULL_WIDTH))
            for width in self.spec.widths:
                for name, part in base_parameters(self.for_width(width)).items():
                    if name in full and not isinstance(part, DTensor):
                        part.data = full[name].data[tuple(map(slice, part.shape))]
        return self

    def unshare_weights(self) -> None:
        """Replace shared weights with separate copies for each network, because FSDP2 cannot shard views."""
        self.shared = False
        for parameter in self.parameters():
            parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)

    def forward(self, x: Tensor, time: Tensor, text: Sequence[TextTokens], width: float = FULL_WIDTH) -> Tensor:
        """Predict the velocity like ``ElasticDiT.forward``."""
        velocity: Tensor = self.for_width(width)(x, time, text)
        return velocity

    def forward_with_features(
        self, x: Tensor, time: Tensor, text: Sequence[TextTokens], width: float = FULL_WIDTH
    ) -> tuple[Tensor, Tensor]:
        """Predict the velocity and the features like ``ElasticDiT.forward_with_features``."""
        return self.for_width(width).forward_with_features(x, time, text)


Supernet = ElasticDiT | PerWidthNetworks
Network = Supernet | UNet


def base_parameters(network: nn.Module) -> dict[str, nn.Parameter]:
    """Return all parameters except LoRA weights, named as in a network without LoRA."""
    return {
        name.replace(".base_layer.", "."): parameter
        for name, parameter in network.named_parameters()
        if ".lora_" not in name
    }


def standalone_network(network: Network, width: float) -> ElasticDiT:
    """Return a standalone network for a width. The network must not be a U-Net.

    Raises:
        ValueError: The network does not have this width.
    """
    assert not isinstance(network, UNet)
    return network.for_width(width) if isinstance(network, PerWidthNetworks) else extract_subnetwork(network, width)


def split_by_width(supernet: ElasticDiT, share_weights: bool) -> PerWidthNetworks:
    """Split a supernet into one standalone network per width.

    Args:
        supernet: The network to split.
        share_weights: Whether the networks use views of the supernet's weights, which take no extra memory.
    """
    spec = supernet.spec
    networks = {width: extract_subnetwork(supernet, width, share_weights) for width in sorted(spec.widths)}
    return PerWidthNetworks(spec, networks, share_weights)


def lora_pairs(weights: Mapping[str, Tensor], hidden: int | str) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield the LoRA weights of one width from the contents of a run's ``weights.safetensors``.

    Their keys are ``lora.HIDDEN.LAYER.A`` and ``lora.HIDDEN.LAYER.B``, where B includes the factor alpha / rank.

    Args:
        weights: The contents of the file.
        hidden: Hidden size of the width, or ``ELASTIC`` for LoRA weights that adapt every width.

    Yields:
        The name of a linear layer, its matrix A (rank, in), and its matrix B (out, rank).
    """
    prefix = f"{LORA_PREFIX}{hidden}."
    for name, a in weights.items():
        if name.startswith(prefix) and name.endswith(".A"):
            layer = name.removesuffix(".A")
            yield layer.removeprefix(prefix), a, weights[f"{layer}.B"]


def merge_lora(supernet: ElasticDiT, weights: Mapping[str, Tensor]) -> PerWidthNetworks:
    """Build standalone networks with each width's LoRA merged into its weights: W + B A (Hu et al. 2021, "LoRA").

    Args:
        supernet: The base network, which is left unchanged.
        weights: LoRA weights named as in ``lora_pairs``. Other names are ignored.
    """
    merged = split_by_width(supernet, share_weights=False)
    with torch.no_grad():
        for width in supernet.spec.widths:
            network = merged.for_width(width)
            for layer, a, b in lora_pairs(weights, supernet.spec.hidden_size(width)):
                network.get_parameter(f"{layer}.weight").add_(b @ a)
    return merged


@torch.no_grad()
def merge_elastic_lora(supernet: ElasticDiT, weights: Mapping[str, Tensor], scale: float = 1.0) -> ElasticDiT:
    """Merge the LoRA that adapts every width into a supernet's weights, in place: W + scale B A.

    Args:
        supernet: The base network.
        weights: LoRA weights named as in ``lora_pairs``. Other names are ignored.
        scale: Strength of the LoRA, 0 for the base network.
    """
    for layer, a, b in lora_pairs(weights, ELASTIC):
        supernet.get_parameter(f"{layer}.weight").add_(b @ a, alpha=scale)
    return supernet
