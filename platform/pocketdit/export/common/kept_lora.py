"""A LoRA that is kept separate from the weights of an exported network. Its strength is an input of the network."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from pocketdit.artifacts.network import has_elastic_lora
from pocketdit.artifacts.run_folder import RunFolder
from pocketdit.artifacts.weights import load_weights
from pocketdit.backbones.build import Backbone
from pocketdit.backbones.dit import ElasticDiT
from pocketdit.backbones.per_width import ELASTIC, LORA_PREFIX, lora_pairs, merge_elastic_lora
from pocketdit.errors import ConfigError
from pocketdit.mobile.layers import pointwise

LORA_SCALE = "lora_scale"
"""Name of the input for the LoRA's strength. 0 selects the base network, and 1 the fine-tuned network."""


class Scale:
    """The strength of a LoRA in the current forward pass, (1,)."""

    value: Tensor


class KeptLora(nn.Module):
    """A 1x1 convolution and its LoRA, W x + B (s A x).

    Args:
        base: The convolution.
        a: Matrix A (rank, in).
        b: Matrix B (out, rank).
        scale: The strength s, which all layers share.
    """

    def __init__(self, base: nn.Module, a: Tensor, b: Tensor, scale: Scale) -> None:
        super().__init__()
        self.base, self.scale = base, scale
        self.down, self.up = (
            pointwise(a.shape[1], a.shape[0], bias=False),
            pointwise(b.shape[1], b.shape[0], bias=False),
        )
        self.down.weight, self.up.weight = (nn.Parameter(matrix[:, :, None, None]) for matrix in (a, b))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in, 1, N) to (B, out, 1, N)."""
        output: Tensor = self.base(x) + self.up(self.down(x) * self.scale.value)
        return output


class ScaledNetwork(nn.Module):
    """A network in the mobile form whose last input is the strength of its LoRA.

    Args:
        network: The network. Its layers are replaced in place.
        factors: LoRA factors of each layer (see ``load_factors``).
    """

    def __init__(self, network: nn.Module, factors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.network, self.scale = network, Scale()
        for layer, a, b in lora_pairs(factors, ELASTIC):
            parent, _, name = layer.rpartition(".")
            setattr(network.get_submodule(parent), name, KeptLora(network.get_submodule(layer), a, b, self.scale))

    def forward(self, *inputs: Tensor) -> Any:
        """Run the network. The last input is the strength of the LoRA, (1,)."""
        self.scale.value = inputs[-1]
        return self.network(*inputs[:-1])


def require_lora(folder: RunFolder) -> None:
    """Raise ``ConfigError`` if a run has no LoRA that could be kept separate."""
    if not has_elastic_lora(load_weights(folder.weights)):
        raise ConfigError(f"lora=kept: {folder.name} has no LoRA; use lora=merged")


def load_factors(folder: RunFolder, network: nn.Module) -> dict[str, Tensor]:
    """Return the factors of a run's LoRA for one width.

    Args:
        folder: The run.
        network: Standalone network for this width.

    Returns:
        The factors, named as in ``lora_pairs``.
    """
    factors: dict[str, Tensor] = {}
    for layer, a, b in lora_pairs(load_weights(folder.weights), ELASTIC):
        rows, columns = network.get_parameter(f"{layer}.weight").shape
        prefix = f"{LORA_PREFIX}{ELASTIC}.{layer}"
        factors |= {f"{prefix}.A": a[:, :columns].contiguous(), f"{prefix}.B": b[:rows].contiguous()}
    return factors


@torch.no_grad()
def merged(network: Backbone, factors: Mapping[str, Tensor], scale: float) -> ElasticDiT:
    """Return a copy of a network in which a LoRA is merged into the weights with a given strength."""
    assert isinstance(network, ElasticDiT)  # a U-Net has no LoRA
    return merge_elastic_lora(deepcopy(network), factors, scale)
