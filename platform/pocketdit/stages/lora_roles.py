"""LoRA adapters for the student, critic, and EMA weights of every width, on one frozen base."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from pocketdit.backbones.dit import ElasticDiT
from pocketdit.backbones.lora import activate_adapter, adapter_parameters, add_adapters, lora_scale
from pocketdit.backbones.per_width import LORA_PREFIX, PerWidthNetworks, base_parameters
from pocketdit.training.ema import update_ema
from pocketdit.training.sharding import full_tensor

STUDENT, CRITIC, EMA = "student", "critic", "ema"


def add_roles(network: ElasticDiT, rank: int, alpha: float) -> None:
    """Add the student, critic and EMA adapters to one width's network. The EMA starts as a copy of the student."""
    add_adapters(network, (STUDENT, CRITIC, EMA), rank, alpha)
    for parameter in adapter_parameters(network, EMA).values():
        parameter.requires_grad_(False)
    update_student_ema(network, decay=0.0)


def role_parameters(networks: PerWidthNetworks, role: str) -> list[nn.Parameter]:
    """Return the LoRA weights of a role (student, critic or EMA) at all widths, from narrow to wide."""
    by_width = [networks.for_width(width) for width in sorted(networks.spec.widths)]
    return [parameter for network in by_width for parameter in adapter_parameters(network, role).values()]


def update_student_ema(network: ElasticDiT, decay: float) -> None:
    """Move one width's EMA weights toward the weights of its student."""
    ema, student = (list(adapter_parameters(network, role).values()) for role in (EMA, STUDENT))
    update_ema(ema, student, decay)


@contextmanager
def ema_active(networks: PerWidthNetworks) -> Iterator[PerWidthNetworks]:
    """Yield the networks with the EMA adapter of every width activated."""
    for width in networks.spec.widths:
        activate_adapter(networks.for_width(width), EMA)
    try:
        yield networks
    finally:
        for width in networks.spec.widths:
            activate_adapter(networks.for_width(width), STUDENT)


def saved_weights(networks: PerWidthNetworks) -> dict[str, Tensor]:
    """Return the weights of the base supernet and the EMA weights of every width's LoRA (see ``lora_pairs``)."""
    weights: dict[str, Tensor] = {}
    for width in sorted(networks.spec.widths):
        network = networks.for_width(width)
        # Go from narrow to wide, because the weights of a wider network contain those of the narrower networks.
        weights |= {name: full_tensor(value) for name, value in base_parameters(network).items()}
        scale = lora_scale(network, EMA)
        for name, value in adapter_parameters(network, EMA).items():
            key = f"{LORA_PREFIX}{networks.spec.hidden_size(width)}.{name}"
            weights[key] = full_tensor(value) * (scale if name.endswith(".B") else 1.0)
    return weights
