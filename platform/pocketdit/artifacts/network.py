"""Loads a run's network."""

import os
from collections.abc import Iterable

import torch
from torch import Tensor

from pocketdit.artifacts.run_folder import RunFolder, load_experiment, resume_option
from pocketdit.artifacts.weights import load_weights
from pocketdit.backbones.build import Backbone, build_network
from pocketdit.backbones.dit import ElasticDiT
from pocketdit.backbones.per_width import (
    ELASTIC,
    LORA_PREFIX,
    NETWORKS_PREFIX,
    Network,
    merge_elastic_lora,
    merge_lora,
    split_by_width,
)
from pocketdit.errors import RunError


def load_network(folder: RunFolder, device: torch.device | str = "cpu", lora_scale: float = 1.0) -> Network:
    """Load a run's backbone for inference, with its EMA weights and with any LoRA merged into it.

    Args:
        folder: The run.
        device: Device of the network.
        lora_scale: Strength of the LoRA of a fine-tuned run, or 0 for the network before fine-tuning.

    Raises:
        RunError: The run's weights are missing, damaged, or not finite, or do not match its configuration.
            Alternatively, ``lora_scale`` is not 1, but the run has no LoRA.
    """
    require_weights(folder)
    experiment = load_experiment(folder)
    with torch.device("meta"):
        supernet = build_network(experiment.backbone)
    weights = load_weights(folder.weights, device)
    for name, value in weights.items():
        if value.dtype != torch.float32:
            raise RunError(f"{folder.weights}: {name} is {value.dtype}, but a run's weights must be torch.float32")
    if lora_scale != 1 and not has_elastic_lora(weights):
        raise RunError(f"{folder.name} has no LoRA whose scale could be changed; leave the scale at 1")
    try:
        network = network_from(supernet, weights, lora_scale)
    except Exception as error:
        lines = str(error).splitlines()
        reason = lines[min(1, len(lines) - 1)].strip()  # the first line of torch's message is a heading
        raise RunError(f"{folder.weights} does not match the network in {folder.config.name}: {reason}") from error
    return network.requires_grad_(False).eval()


def require_weights(folder: RunFolder) -> None:
    """Raise ``RunError`` if the run has no weights."""
    if not folder.weights.is_file():
        if os.path.lexists(folder.weights):
            raise RunError(f"{folder.weights} is not a file; copy the weights again")
        if folder.finished.is_file():
            raise RunError(
                f"{folder.weights} is missing, although the run has finished; copy the weights again, or restore them "
                f"from the checkpoint with {resume_option(folder)}"
            )
        raise RunError(f"{folder.path} has no weights yet; resume the run with {resume_option(folder)}")


def has_elastic_lora(weights: Iterable[str]) -> bool:
    """Return whether the weights with these names include a LoRA that adapts every width."""
    return any(name.startswith(f"{LORA_PREFIX}{ELASTIC}.") for name in weights)


def network_from(supernet: Backbone, weights: dict[str, Tensor], lora_scale: float = 1.0) -> Network:
    """Return the network for weights that a stage has saved.

    Args:
        supernet: The backbone on the meta device, to which the weights are assigned.
        weights: Weights of a supernet, of a supernet with LoRA adapters, or of one standalone network per width.
        lora_scale: Strength of a LoRA that adapts every width.
    """
    if not isinstance(supernet, ElasticDiT):
        supernet.load_state_dict(weights, assign=True)
        return supernet
    if any(name.startswith(NETWORKS_PREFIX) for name in weights):
        networks = split_by_width(supernet, share_weights=False)
        networks.load_state_dict(weights, assign=True)
        return networks
    base = {name: value for name, value in weights.items() if not name.startswith(LORA_PREFIX)}
    supernet.load_state_dict(base, assign=True)
    if len(base) == len(weights):
        return supernet
    if has_elastic_lora(weights):
        return merge_elastic_lora(supernet, weights, lora_scale)
    return merge_lora(supernet, weights)
