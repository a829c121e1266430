"""LoRA adapters on a network's transformer layers, by way of peft: several sets on one base, one active at a time."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from pocketdit.backbones.dit import ElasticDiT

# Every linear map inside the transformer blocks, and the long skips.
TARGETS = r"stages\..*\.(q|kv|out|gate|expand|contract|stream|skip)"


def add_adapters(network: ElasticDiT, names: Sequence[str], rank: int, alpha: float) -> None:
    """Adds adapters in place; the base is frozen. B starts at zero, so every adapter begins as the base network.

    The first of ``names`` is active. Layers with fewer channels than ``rank`` get the same rank.
    """
    from peft import LoraConfig
    from peft.tuners.lora import LoraModel

    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=TARGETS)  # type: ignore[arg-type]
    tuner = LoraModel(network, config, names[0])
    for name in names[1:]:
        tuner.peft_config[name] = config
        tuner.inject_adapter(network, name)
    for name in names:
        for weight in adapter_parameters(network, name).values():
            weight.requires_grad_(True)
    activate(network, names[0])


def layers(network: nn.Module) -> Iterator[tuple[str, Any]]:
    """(name, peft layer) of every adapted layer."""
    from peft.tuners.lora import LoraLayer

    for name, module in network.named_modules():
        if isinstance(module, LoraLayer):
            yield name, module


def activate(network: nn.Module, name: str | None) -> None:
    """Makes one adapter the one that forward passes use; None is the base alone.

    A backward pass that runs forward passes again (gradient checkpointing) needs its own adapter active.
    """
    for _, layer in layers(network):
        weights = [*layer.lora_A.parameters(), *layer.lora_B.parameters()]
        trained = [weight.requires_grad for weight in weights]
        layer.enable_adapters(name is not None)
        if name is not None:
            layer.set_adapter(name)
        # peft freezes whatever is not active; but DDP has to know all that is ever trained, and a graph that waits
        # for its backward pass would lose its gradients without a word.
        for weight, flag in zip(weights, trained, strict=True):
            weight.requires_grad_(flag)


@contextmanager
def using(network: nn.Module, name: str | None, afterwards: str | None) -> Iterator[None]:
    """Another adapter for a while."""
    activate(network, name)
    try:
        yield
    finally:
        activate(network, afterwards)


def adapter_parameters(network: nn.Module, name: str) -> dict[str, nn.Parameter]:
    """Weights of one adapter by the name of the layer, ``LAYER.A`` (rank, in) and ``LAYER.B`` (out, rank)."""
    found = {}
    for layer_name, layer in layers(network):
        found[f"{layer_name}.A"] = layer.lora_A[name].weight
        found[f"{layer_name}.B"] = layer.lora_B[name].weight
    return found


def scaling(network: nn.Module, name: str) -> float:
    """alpha / rank."""
    return float(next(layer for _, layer in layers(network)).scaling[name])


@torch.no_grad()
def load_adapter(network: nn.Module, name: str, weights: Mapping[str, Tensor]) -> None:
    """Fills an adapter from tensors named as by ``adapter_parameters``. Raises ``ValueError`` unless all are there."""
    parameters = adapter_parameters(network, name)
    if set(parameters) != set(weights):
        odd = min(set(parameters) ^ set(weights))
        raise ValueError(f"LoRA weights do not fit this network: {odd}")
    for key, parameter in parameters.items():
        parameter.copy_(weights[key])
