"""Saves the LoRA of a fine-tuned run as a separate file, which diffusers and peft can load."""

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save
from torch import Tensor

from pocketdit.files import write_atomically

LORA_FILE = "pytorch_lora_weights.safetensors"
"""The default file name of diffusers."""
PREFIX = "transformer.network"
"""Location of the network in ``PocketDiTPipeline``. The names of the weights start with this prefix."""


def save_lora(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Write a LoRA with the weight names of diffusers, such as ``transformer.network.LAYER.lora_A.weight``.

    Args:
        path: Path of the file.
        weights: ``LAYER.A`` (rank, in) and ``LAYER.B`` (out, rank), where B includes the factor alpha / rank. The file
            does not contain this factor, so readers use 1.
    """
    named = {diffusers_name(name): value.detach().cpu().contiguous() for name, value in weights.items()}
    write_atomically(path, save(named, metadata={"format": "pt"}))


def diffusers_name(name: str) -> str:
    """Return the name of ``LAYER.A`` or ``LAYER.B`` in diffusers."""
    layer, _, factor = name.rpartition(".")
    return f"{PREFIX}.{layer}.lora_{factor}.weight"
