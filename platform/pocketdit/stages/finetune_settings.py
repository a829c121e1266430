"""Settings of fine-tuning: the LoRA to train, and the prompts whose images the network should not forget."""

from dataclasses import dataclass
from typing import Annotated

from pocketdit.backbones.dit import ElasticDiT
from pocketdit.backbones.lora import ALL_TARGETS, LoraTarget, activate_adapter, add_adapters, clear_unused
from pocketdit.bounds import Between, Count, Weight, check_bounds
from pocketdit.errors import ConfigError

ADAPTER = "finetune"
"""Name of the trained adapter."""


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters that are trained instead of the network's weights (Hu et al. 2021, "LoRA").

    Attributes:
        rank: Rank of the factors.
        alpha: The product of the factors is scaled by alpha / rank.
        targets: Groups of layers that get adapters: self-attention, cross-attention, feed-forward layers, long skips.
    """

    rank: Count = 16
    alpha: Annotated[float, Between(1e-3, 1e6)] = 16.0
    targets: tuple[LoraTarget, ...] = ALL_TARGETS

    def __post_init__(self) -> None:
        check_bounds(self)
        if not self.targets:
            raise ValueError("targets must contain at least one group of layers")


@dataclass(frozen=True)
class Prior:
    """Images that the network should not forget how to generate.

    Attributes:
        prompts: Prompts for these images.
        images: Number of images that the network samples for these prompts before it is fine-tuned.
        weight: Weight of the loss on these images.
    """

    prompts: tuple[str, ...]
    images: Count = 64
    weight: Weight = 1.0

    def __post_init__(self) -> None:
        check_bounds(self)
        if not self.prompts:
            raise ValueError("prompts must not be empty")


def add_lora(network: ElasticDiT, lora: Lora) -> None:
    """Add a LoRA to a network and freeze all other weights.

    Raises:
        ConfigError: The network has no layer in any of the target groups.
    """
    try:
        add_adapters(network.requires_grad_(False), (ADAPTER,), lora.rank, lora.alpha, lora.targets)
    except ValueError as error:
        targets = ", ".join(lora.targets)
        raise ConfigError(f"stage.init_args.lora.targets: the network has none of these layers: {targets}") from error
    activate_adapter(network, ADAPTER)
    clear_unused(network, ADAPTER)
