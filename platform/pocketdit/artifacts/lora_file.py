"""The LoRA of a fine-tuned run as a separate file, which diffusers and peft load."""

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save
from torch import Tensor

from pocketdit.files import write_atomically

LORA_FILE = "pytorch_lora_weights.safetensors"
"""diffusers' default name for the file."""
PREFIX = "transformer.network"
"""Where the network is in ``PocketDiTPipeline``, with which the names of the weights begin."""


def save_lora(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Write a LoRA with the names of diffusers, such as ``transformer.network.LAYER.lora_A.weight``.

    Args:
        path: The file.
        weights: ``LAYER.A`` (rank, in) and ``LAYER.B`` (out, rank), where B includes the factor alpha / rank. Readers
            use a factor of 1 if the file does not contain any.
    """
    named = {diffusers_name(name): value.detach().cpu().contiguous() for name, value in weights.items()}
    write_atomically(path, save(named, metadata={"format": "pt"}))


def diffusers_name(name: str) -> str:
    """Return the name that diffusers gives to ``LAYER.A`` or ``LAYER.B``."""
    layer, _, factor = name.rpartition(".")
    return f"{PREFIX}.{layer}.lora_{factor}.weight"
