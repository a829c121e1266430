"""Weights files, which contain a checksum of their tensors.

The checksum is a CRC-32. It is computed from the tensors in memory before a file is written, and checked whenever the
file is loaded. Computing the checksum takes about half a second per gigabyte.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from pocketdit.checksum import checksum
from pocketdit.errors import RunError
from pocketdit.files import damage, write_atomically

CHECKSUM_KEY = "crc32"


def save_weights(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors to a safetensors file atomically.

    Raises:
        OSError: The file cannot be written.
    """
    on_cpu = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_atomically(path, save(on_cpu, metadata={CHECKSUM_KEY: checksum(on_cpu)}))


def load_weights(path: Path, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """Load a file written by ``save_weights``. Files written by earlier versions are accepted without a checksum.

    Raises:
        RunError: The file cannot be read, is damaged, or contains values that are not finite.
    """
    try:
        with safe_open(path, framework="pt") as file:
            expected = (file.metadata() or {}).get(CHECKSUM_KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
    except Exception as error:  # safetensors raises its own error, OSError, or ValueError
        raise RunError(f"{path} cannot be read as weights ({damage(path, error)}); copy the file again") from error
    if expected is not None and checksum(tensors) != expected:
        raise RunError(f"{path} is damaged: its checksum does not match; copy the file again")
    if bad := [name for name, value in tensors.items() if not bool(value.isfinite().all())]:
        raise RunError(f"{path}: {bad[0]} contains NaN or infinity; use the weights of another run")
    return {name: value.to(device) for name, value in tensors.items()}
