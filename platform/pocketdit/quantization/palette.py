"""Palettized weights: each weight of a tensor has one of 2^bits shared values. "Palettized" is Core ML's term."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from pocketdit.checksum import checksum
from pocketdit.errors import RunError
from pocketdit.files import damage, write_atomically
from pocketdit.quantization import kmeans

LAYERS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
VALUE_BITS = 16
# Bits per index that Core ML supports on every deployment target (constexpr_lut_to_dense).
CORE_ML_BITS = (1, 2, 4, 6, 8)


@dataclass(frozen=True)
class Palette:
    """A palettized weight.

    Attributes:
        values: The values (2^bits,) of the palette in increasing order, float16.
        indices: Palette index of each weight, uint8, in the shape of the weight tensor.
    """

    values: Tensor
    indices: Tensor

    @property
    def bits(self) -> int:
        """Bits per index."""
        return (len(self.values) - 1).bit_length()

    def dense(self) -> Tensor:
        """Return the weight tensor values[indices] in float32."""
        return self.values.float()[self.indices.int()]

    def stored_bits(self) -> int:
        """Return the size in bits of the packed indices and the palette."""
        return stored_bits(self.indices.numel(), self.bits)


def stored_bits(weights: int, bits: int) -> int:
    """Return the size in bits of ``weights`` palettized weights, stored as packed indices and an fp16 palette."""
    return weights * bits + VALUE_BITS * (1 << bits)


def palettize(weight: Tensor, bits: int) -> Palette:
    """Palettize a weight tensor with k-means over its values (paper supplement C).

    The centers are rounded to fp16 before each weight is assigned to the nearest center. The result is deterministic
    and stays on the device of the weight tensor.

    Raises:
        ValueError: ``bits`` is not between 1 and 8, or a weight is not finite in fp16.
    """
    if not 1 <= bits <= 8:
        raise ValueError(f"bits must be between 1 and 8, not {bits}")
    codes = kmeans.fp16_codes(weight)
    centers = kmeans.fit_centers(*kmeans.count_values(codes), 2**bits)
    values = torch.from_numpy(centers).half()
    # The table of all codes includes infinities and NaN, but the weights do not.
    all_values = kmeans.fp16_values().double().nan_to_num(0.0).numpy()
    index_of = torch.from_numpy(kmeans.nearest(all_values, values.double().numpy()).astype(np.uint8))
    indices = index_of.to(weight.device)[codes]
    return Palette(values.to(weight.device), indices)


def palettized_layers(network: nn.Module, weight_threshold: int) -> dict[str, nn.Module]:
    """Return the linear and convolutional layers with more weights than the threshold, each under its name.

    ``weight_threshold`` has the same meaning as in coremltools. In a small layer, the palette takes up most of the
    space that palettization saves.
    """
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, LAYERS) and module.weight.numel() > weight_threshold
    }


def save_palettes(path: Path, palettes: Mapping[str, Palette]) -> None:
    """Write palettes to a safetensors file.

    The file contains ``LAYER.palette`` (2^bits,) in float16 and ``LAYER.indices`` in uint8. The metadata entry
    "palettes" is a JSON object: "bits" is the number of bits of each layer, and "crc32" the checksum of the tensors.
    """
    tensors = {f"{name}.palette": palette.values.cpu() for name, palette in palettes.items()}
    tensors |= {f"{name}.indices": palette.indices.cpu().contiguous() for name, palette in palettes.items()}
    bits = {name: palette.bits for name, palette in palettes.items()}
    # Use a single metadata entry, because safetensors writes several entries in random order.
    metadata = {"palettes": json.dumps({"bits": bits, "crc32": checksum(tensors)})}
    write_atomically(path, save(tensors, metadata=metadata))


def load_palettes(path: Path) -> dict[str, Palette]:
    """Read a file written by ``save_palettes``.

    Raises:
        RunError: The file is missing or damaged.
    """
    if not path.is_file():
        raise RunError(f"{path} is missing or is not a file; copy the run folder again")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
        # Files written by earlier versions have a "bits" entry and no checksum.
        content = json.loads(metadata["palettes"] if "palettes" in metadata else f'{{"bits": {metadata["bits"]}}}')
        palettes = {name: Palette(tensors[f"{name}.palette"], tensors[f"{name}.indices"]) for name in content["bits"]}
    except Exception as error:
        raise RunError(f"{path}: cannot read palettes from this file: {damage(path, error)}") from error
    if checksum(tensors) != content.get("crc32", checksum(tensors)):
        raise RunError(f"{path} is damaged: its checksum does not match; copy the file again")
    return palettes
