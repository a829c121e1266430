"""LoRA for elastic layers. The LoRA factors A and B are sliced together with the layer's weight W.

A is sliced along the inputs and B along the outputs, so slicing the merged weight produces the same layer as merging
the sliced factors: (W + s B A)[:out, :in] = W[:out, :in] + s B[:out] A[:, :in]. One pair of factors adapts every width.
"""

from functools import cache
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from pocketdit.backbones.elastic import ElasticLinear, leading


class SlicedAdapters:
    """Forward pass of peft's LoRA layers for ``ElasticLinear``, in which the size of the input determines the width."""

    base_layer: nn.Module
    lora_A: Any  # noqa: N815  (peft's names)
    lora_B: Any  # noqa: N815
    scaling: dict[str, float]
    active_adapters: list[str]
    disable_adapters: bool
    merged: bool

    def forward(self, x: Tensor, out_features: int | None = None) -> Tensor:
        """Apply the layer and its active adapters.

        Args:
            x: Input (..., in) with in <= ``in_features``.
            out_features: Number of output features. None uses all of them.

        Returns:
            Output (..., out_features).
        """
        result: Tensor = self.base_layer(x, out_features)
        if self.disable_adapters or self.merged:
            return result
        dtype = result.dtype
        for name in self.active_adapters:
            if name in self.lora_A:
                a, b = self.lora_A[name].weight, self.lora_B[name].weight
                inner = F.linear(x.to(a.dtype), leading(a, a.shape[0], x.shape[-1]))
                result = result + F.linear(inner, leading(b, result.shape[-1])) * self.scaling[name]
        return result.to(dtype)


def slice_adapters(network: nn.Module) -> None:
    """Make the LoRA layers that peft has added to a network's elastic layers work at every width.

    peft's class works only at the full width. Like ``fully_shard``, this function changes the class of each layer in
    place, so that its weights, name, and other methods stay the same.
    """
    for module in network.modules():
        is_adapted = isinstance(getattr(module, "base_layer", None), ElasticLinear)
        if is_adapted and not isinstance(module, SlicedAdapters):
            module.__class__ = _sliced(type(module))  # type: ignore[arg-type]  # classes are hashable


@cache
def _sliced(cls: Any) -> Any:
    return type(f"Sliced{cls.__name__}", (SlicedAdapters, cls), {})
