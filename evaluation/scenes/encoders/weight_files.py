"""Small weights files in safetensors, with float16 tensors and JSON metadata in the header."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pocketdit.errors import UserError
from pocketdit.files import write_atomically

WEIGHTS = Path(__file__).parents[1] / "weights"


def save_weights(path: Path, weights: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Save weights with JSON metadata. Floating-point tensors are stored as float16."""
    from safetensors.torch import save

    tensors = {name: (t.half() if t.is_floating_point() else t).contiguous() for name, t in weights.items()}
    write_atomically(path, save(tensors, {"about": json.dumps(metadata)}))


def load_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any], str]:
    """Load a file written by ``save_weights``.

    Returns:
        The tensors (float16 converted to float32), the metadata, and the start of the file's hash as a version.

    Raises:
        UserError: The file is missing, or was not written by ``save_weights``.
    """
    from safetensors import SafetensorError, safe_open

    try:
        version = hashlib.blake2b(path.read_bytes(), digest_size=6).hexdigest()
        with safe_open(path, framework="pt") as file:
            metadata = json.loads(file.metadata()["about"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (OSError, SafetensorError, TypeError, KeyError) as error:
        raise UserError(
            f"{path}: not the weights of a scene encoder ({error}); "
            "create them with: python benchmarks/train_scene_encoders.py"
        ) from error
    floats = {name: tensor.float() if tensor.dtype == torch.float16 else tensor for name, tensor in tensors.items()}
    return floats, metadata, version
