"""LoRA adapters for the transformer blocks of a network, using peft. One network can have several adapters."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from pocketdit.backbones.dit import ElasticDiT
from pocketdit.backbones.elastic_lora import slice_adapters
from pocketdit.backbones.spec import FULL_WIDTH

LoraTarget = Literal["attention", "cross", "ffn", "skips"]
"""A group of linear layers: self-attention, cross-attention, the feed-forward layers, or the long skips."""
ALL_TARGETS: tuple[LoraTarget, ...] = get_args(LoraTarget)


def target_modules(targets: Sequence[LoraTarget]) -> str:
    """Return a regular expression that matches the names of the linear layers in the given groups."""
    return rf"stages\..*\.({'|'.join(targets)})\.(\d+\.)?(q|kv|out|gate|expand|contract|stream|skip)"


def add_adapters(
    network: ElasticDiT,
    names: Sequence[str],
    rank: int,
    alpha: float,
    targets: Sequence[LoraTarget] = ALL_TARGETS,
) -> None:
    """Add LoRA adapters to a network in place and freeze all other weights.

    B starts at zero, so a new adapter does not change the network's output. An adapter of a supernet adapts all widths.

    Args:
        network: The base network.
        names: Names of the adapters. The first adapter is activated.
        rank: Rank of every layer's adapter, even if the layer has fewer channels.
        alpha: LoRA's alpha. The product B A is scaled by alpha / rank.
        targets: Groups of layers that get an adapter.
    """
    from peft import LoraConfig
    from peft.tuners.lora import LoraModel

    # peft declares lora_alpha as an int but accepts any number.
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=target_modules(targets))  # type: ignore[arg-type]
    tuner = LoraModel(network, config, names[0])
    for name in names[1:]:
        tuner.peft_config[name] = config
        tuner.inject_adapter(network, name)
    slice_adapters(network)
    for name in names:
        for weight in adapter_parameters(network, name).values():
            weight.requires_grad_(True)
    activate_adapter(network, names[0])


def lora_layers(network: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield the name and the peft module of every layer that has adapters."""
    from peft.tuners.lora import LoraLayer

    for name, module in network.named_modules():
        if isinstance(module, LoraLayer):
            yield name, module


def activate_adapter(network: nn.Module, name: str | None) -> None:
    """Select the adapter that forward passes use. None disables all adapters.

    With gradient checkpointing, the backward pass repeats the forward pass, so it needs the same active adapter.
    """
    for _, layer in lora_layers(network):
        weights = [*layer.lora_A.parameters(), *layer.lora_B.parameters()]
        requires_grad = [weight.requires_grad for weight in weights]
        layer.enable_adapters(name is not None)
        if name is not None:
            layer.set_adapter(name)
        # peft freezes inactive adapters. Undo this, because DDP must know about every parameter that is ever trained,
        # and an autograd graph whose backward pass has not run yet would silently lose its gradients.
        for weight, flag in zip(weights, requires_grad, strict=True):
            weight.requires_grad_(flag)


@contextmanager
def active_adapter(network: nn.Module, name: str | None, restore: str | None) -> Iterator[None]:
    """Activate the adapter ``name`` inside the context and the adapter ``restore`` on exit."""
    activate_adapter(network, name)
    try:
        yield
    finally:
        activate_adapter(network, restore)


def adapter_parameters(network: nn.Module, name: str) -> dict[str, nn.Parameter]:
    """Return an adapter's weights: ``LAYER.A`` (rank, in) and ``LAYER.B`` (out, rank) for every adapted layer."""
    parameters = {}
    for layer_name, layer in lora_layers(network):
        parameters[f"{layer_name}.A"] = layer.lora_A[name].weight
        parameters[f"{layer_name}.B"] = layer.lora_B[name].weight
    return parameters


def lora_scale(network: nn.Module, name: str) -> float:
    """Return an adapter's scaling factor, alpha / rank."""
    return float(next(layer for _, layer in lora_layers(network)).scaling[name])


@torch.no_grad()
def load_adapter(network: nn.Module, name: str, weights: Mapping[str, Tensor]) -> None:
    """Copy weights into an adapter.

    Args:
        network: A network that has the adapter.
        name: Name of the adapter.
        weights: Tensors under the names that ``adapter_parameters`` returns.

    Raises:
        ValueError: A weight is missing or unexpected.
    """
    parameters = adapter_parameters(network, name)
    if set(parameters) != set(weights):
        mismatch = min(set(parameters) ^ set(weights))
        raise ValueError(f"LoRA weights do not fit this network: {mismatch} exists in only one of the two")
    for key, parameter in parameters.items():
        parameter.copy_(weights[key])


@torch.no_grad()
def clear_unused(network: ElasticDiT, name: str) -> None:
    """Zero the columns of A that no width of a supernet uses.

    If the largest width is below 1, these columns are never trained and would keep their random initial values. The
    unused rows of B are zero from the start, so the product B A is then zero outside the largest sub-network's weights.
    """
    spec = network.spec
    with torch.device("meta"):
        widest = ElasticDiT(replace(spec, width=spec.hidden_size(max(spec.widths)), widths=(FULL_WIDTH,)))
    for key, weight in adapter_parameters(network, name).items():
        if key.endswith(".A"):
            weight[:, widest.get_parameter(f"{key.removesuffix('.A')}.weight").shape[1] :] = 0
