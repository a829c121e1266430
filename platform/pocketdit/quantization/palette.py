"""Palettised weights: every weight of a tensor is one of 2^bits values (Core ML's name for it)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from pocketdit.errors import RunError
from pocketdit.files import write_atomically
from pocketdit.quantization import kmeans

LAYERS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
VALUE_BITS = 16
# What Core ML has for every deployment target (constexpr_lut_to_dense).
CORE_ML_BITS = (1, 2, 4, 6, 8)


@dataclass(frozen=True)
class Palette:
    """``values`` (2^bits,) rising in float16; ``indices`` uint8 of the weight's shape."""

    values: Tensor
    indices: Tensor

    @property
    def bits(self) -> int:
        return (len(self.values) - 1).bit_length()

    def dense(self) -> Tensor:
        """values[indices], the weight in float32."""
        return self.values.float()[self.indices.int()]

    def stored_bits(self) -> int:
        return stored_bits(self.indices.numel(), self.bits)


def stored_bits(weights: int, bits: int) -> int:
    """Of one tensor's packed indices and its palette."""
    return weights * bits + VALUE_BITS * 2**bits


def palettise(weight: Tensor, bits: int) -> Palette:
    """k-means over a weight's values (paper supplement C); the centres are rounded to fp16 before the last assignment.

    Deterministic. On the weight's device. Raises ``ValueError`` for bits outside 1 to 8, or a weight that fp16 does not
    hold.
    """
    if not 1 <= bits <= 8:
        raise ValueError(f"a palette has 1 to 8 bits, not {bits}")
    numbers = kmeans.codes(weight)
    centres = kmeans.centres(*kmeans.counted(numbers), 2**bits)
    values = torch.from_numpy(centres).half()
    # Infinities and NaN are among the codes, not among the weights.
    every = kmeans.all_values().double().nan_to_num(0.0).numpy()
    index_of = torch.from_numpy(kmeans.nearest(every, values.double().numpy()).astype(np.uint8))
    indices = index_of.to(weight.device)[numbers]
    return Palette(values.to(weight.device), indices)


def palettised_layers(network: nn.Module, weight_threshold: int) -> dict[str, nn.Module]:
    """Linear and convolutional layers with more weights than the threshold, by name.

    coremltools' ``weight_threshold`` means the same: a small layer saves little, and its palette costs as much.
    """
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, LAYERS) and module.weight.numel() > weight_threshold
    }


def save_palettes(path: Path, palettes: Mapping[str, Palette]) -> None:
    """``LAYER.palette`` (2^bits,) float16 and ``LAYER.indices`` uint8; as metadata "bits", JSON of every layer's."""
    tensors = {f"{name}.palette": palette.values.cpu() for name, palette in palettes.items()}
    tensors |= {f"{name}.indices": palette.indices.cpu().contiguous() for name, palette in palettes.items()}
    bits = {name: palette.bits for name, palette in palettes.items()}
    # One entry: safetensors writes several in any order.
    write_atomically(path, save(tensors, metadata={"bits": json.dumps(bits)}))


def load_palettes(path: Path) -> dict[str, Palette]:
    """What ``save_palettes`` wrote. Raises ``RunError`` where it cannot be read."""
    try:
        with safe_open(path, framework="pt") as file:
            return {
                name: Palette(file.get_tensor(f"{name}.palette"), file.get_tensor(f"{name}.indices"))
                for name in json.loads(file.metadata()["bits"])
            }
    except Exception as error:
        raise RunError(f"{path} holds no palettes: {str(error).splitlines()[0]}") from error
