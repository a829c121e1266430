"""One standalone network for every width of a supernet, called like the supernet.

What a supernet becomes once its widths do not share all weights any more: every width has LoRA weights of its own.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Self

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from pocketdit.backbones.dit import ElasticDiT, extract
from pocketdit.backbones.spec import FULL, DiTSpec
from pocketdit.encoders.contract import TextTokens

LORA = "lora."
NETWORKS = "networks."  # how the names of ``ByWidth``'s weights begin


class ByWidth(nn.Module):
    """``networks``: standalone networks by their width. ``spec`` is the supernet's.

    ``shared``: the narrower networks' weights are views of the widest one's, and stay so on another device.
    """

    def __init__(self, spec: DiTSpec, networks: Mapping[float, ElasticDiT], shared: bool = False) -> None:
        super().__init__()
        self.spec = spec
        self.shared = shared
        self.networks = nn.ModuleDict({str(spec.hidden(width)): network for width, network in networks.items()})

    def at(self, width: float) -> ElasticDiT:
        """The network of one width. Raises ``ValueError`` where there is none."""
        network = self.networks[str(self.spec.hidden(width))]
        assert isinstance(network, ElasticDiT)
        return network

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """``to`` and its like, which copy every parameter by itself."""
        super()._apply(fn, recurse)
        if self.shared:
            whole = base_parameters(self.at(FULL))
            for width in self.spec.widths:
                for name, part in base_parameters(self.at(width)).items():
                    if name in whole and not isinstance(part, DTensor):
                        part.data = whole[name].data[tuple(map(slice, part.shape))]
        return self

    def separate(self) -> None:
        """Give every network weights of its own: FSDP2, which divides them over the ranks, takes no views."""
        self.shared = False
        for parameter in self.parameters():
            parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)

    def forward(self, x: Tensor, time: Tensor, text: Sequence[TextTokens], width: float = FULL) -> Tensor:
        """As ``ElasticDiT``."""
        return self.at(width)(x, time, text)

    def with_features(
        self, x: Tensor, time: Tensor, text: Sequence[TextTokens], width: float = FULL
    ) -> tuple[Tensor, Tensor]:
        """As ``ElasticDiT``."""
        return self.at(width).with_features(x, time, text)


Network = ElasticDiT | ByWidth


def base_parameters(network: nn.Module) -> dict[str, nn.Parameter]:
    """A network's own weights, LoRA left out, under the names that they have without LoRA."""
    return {
        name.replace(".base_layer.", "."): parameter
        for name, parameter in network.named_parameters()
        if ".lora_" not in name
    }


def standalone(network: Network, width: float) -> ElasticDiT:
    """The network of one width by itself. Raises ``ValueError`` where there is none."""
    return network.at(width) if isinstance(network, ByWidth) else extract(network, width)


def split(supernet: ElasticDiT, share: bool) -> ByWidth:
    """Every width's own network; with ``share`` all are views of the supernet's weights and take no memory."""
    spec = supernet.spec
    return ByWidth(spec, {width: extract(supernet, width, share) for width in sorted(spec.widths)}, share)


def lora_pairs(weights: Mapping[str, Tensor], hidden: int) -> Iterator[tuple[str, Tensor, Tensor]]:
    """(name of the linear layer, A (rank, in), B (out, rank)) of one width, out of a run's ``weights.safetensors``.

    They are stored as ``lora.HIDDEN.LAYER.A`` and ``.B``, the factor alpha / rank within B.
    """
    prefix = f"{LORA}{hidden}."
    for name, a in weights.items():
        if name.startswith(prefix) and name.endswith(".A"):
            layer = name.removesuffix(".A")
            yield layer.removeprefix(prefix), a, weights[f"{layer}.B"]


def merge(supernet: ElasticDiT, weights: Mapping[str, Tensor]) -> ByWidth:
    """Standalone networks with each width's LoRA in their weights: W + B A (Hu et al. 2021, "LoRA")."""
    merged = split(supernet, share=False)
    with torch.no_grad():
        for width in supernet.spec.widths:
            network = merged.at(width)
            for layer, a, b in lora_pairs(weights, supernet.spec.hidden(width)):
                network.get_parameter(f"{layer}.weight").add_(b @ a)
    return merged
