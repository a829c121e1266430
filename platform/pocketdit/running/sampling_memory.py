"""Checks that images of a given size can be sampled in the free memory, before anything large is allocated."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pocketdit.backbones.build import build_network
from pocketdit.config.declared import latent_sides, text_lengths
from pocketdit.config.experiment import Experiment
from pocketdit.errors import ConfigError
from pocketdit.memory import available_memory
from pocketdit.sampling import BATCH
from pocketdit.training.cost import network_inputs

CHANNELS, FLOAT = 3, 4  # number of channels of an image, and bytes per float32 value


class NotEnoughMemoryError(ConfigError):
    """Images of the requested size and number cannot be sampled in the free memory."""


class _FusedAttention(TorchFunctionMode):
    """Replaces attention with an empty output of the right shape, because fused kernels do not store the scores."""

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.nn.functional.scaled_dot_product_attention:
            named = dict(zip(("query", "key", "value"), args, strict=False)) | (kwargs or {})
            query, value = named["query"], named["value"]
            return query.new_empty(*query.shape[:-1], value.shape[-1])
        return func(*args, **(kwargs or {}))


class _LargestOperation(TorchDispatchMode):
    """Records the largest total size in bytes of the inputs and outputs of one operation."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch does not annotate it
        self.largest: int = 0

    def __torch_dispatch__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        storages = [leaf.untyped_storage() for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor)]
        self.largest = max(self.largest, sum({id(item): item.nbytes() for item in storages}.values()))
        return result


def least_sampling_bytes(experiment: Experiment, size: tuple[int, int], prompts: int) -> int:
    """Return a lower bound in bytes on the memory for sampling: that of the network's largest operation or the images.

    Args:
        experiment: Configuration of the run, with the sampling settings.
        size: Image height and width in pixels.
        prompts: Number of prompts.
    """
    batch = min(prompts, BATCH) * (1 if experiment.sampling.guidance == 1 else 2)
    sides = latent_sides(experiment.autoencoder, size)
    lengths = text_lengths(experiment.text_encoders)
    with torch.device("meta"), torch.no_grad():
        network = build_network(experiment.backbone)
        inputs = network_inputs(experiment.backbone, batch, sides, "meta", lengths)
        with _FusedAttention(), _LargestOperation() as counter:
            network(*inputs, width=max(experiment.backbone.widths))
    return max(int(counter.largest), prompts * CHANNELS * size[0] * size[1] * FLOAT)


def require_sampling_memory(
    experiment: Experiment, size: tuple[int, int], prompts: int, option: str, device: str = "cpu"
) -> None:
    """Check that images of a given size can be sampled in the free memory.

    Args:
        experiment: Configuration of the run, with the sampling settings.
        size: Image height and width in pixels.
        prompts: Number of prompts.
        option: The option that sets the size, for the message.
        device: Device on which the images are sampled.

    Raises:
        NotEnoughMemoryError: There is not enough memory.
    """
    free = torch.cuda.mem_get_info(device)[0] if device.startswith("cuda") else available_memory()
    if free is None:
        return
    needed = least_sampling_bytes(experiment, size, prompts)
    if needed > free:
        raise NotEnoughMemoryError(
            f"{option}: sampling {size[0]}x{size[1]} pixels needs at least {needed / 1e9:.1f} GB of memory, but only "
            f"{free / 1e9:.1f} GB is free; choose a smaller size"
        )
