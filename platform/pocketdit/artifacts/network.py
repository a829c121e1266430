"""From a run's files to its network."""

import torch
from safetensors.torch import load_file
from torch import Tensor

from pocketdit.artifacts.run_folder import RunFolder, load_experiment
from pocketdit.backbones.by_width import LORA, NETWORKS, Network, merge, split
from pocketdit.backbones.dit import ElasticDiT
from pocketdit.errors import RunError


def load_network(folder: RunFolder, device: torch.device | str = "cpu") -> Network:
    """A run's averaged backbone from ``weights.safetensors``, ready for inference; LoRA is merged into it.

    Raises ``RunError`` where the run has no weights yet or they do not fit its configuration.
    """
    if not folder.weights.is_file():
        raise RunError(f"{folder.path} has no weights yet: go on training it with --resume {folder.name}")
    experiment = load_experiment(folder)
    with torch.device("meta"):
        supernet = ElasticDiT(experiment.backbone)
    try:
        weights = load_file(folder.weights, device=str(device))
        network = network_from(supernet, weights)
    except Exception as error:
        first = str(error).splitlines()[0]
        raise RunError(f"{folder.weights} does not hold this run's network: {first}") from error
    return network.requires_grad_(False).eval()


def network_from(supernet: ElasticDiT, weights: dict[str, Tensor]) -> Network:
    """A run's network from what its stage wrote: a supernet, one with LoRA beside it, or networks of single widths.

    ``supernet``: on the meta device.
    """
    if any(name.startswith(NETWORKS) for name in weights):
        networks = split(supernet, share=False)
        networks.load_state_dict(weights, assign=True)
        return networks
    base = {name: value for name, value in weights.items() if not name.startswith(LORA)}
    supernet.load_state_dict(base, assign=True)
    return supernet if len(base) == len(weights) else merge(supernet, weights)
