"""Small weights as files: float16 safetensors, with what they need to be loaded in the header."""

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


def save_weights(path: Path, weights: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Floating-point tensors as float16, the others as they are; ``about`` is JSON."""
    from safetensors.torch import save

    tensors = {name: (t.half() if t.is_floating_point() else t).contiguous() for name, t in weights.items()}
    write_atomically(path, save(tensors, {"about": json.dumps(about)}))


def load_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any], str]:
    """The tensors (float32), what was said about them, and a version: the start of the file's hash.

    Raises:
        UserError: the file is missing, or not one that ``save_weights`` wrote.
    """
    from safetensors import SafetensorError, safe_open

    try:
        version = hashlib.blake2b(path.read_bytes(), digest_size=6).hexdigest()
        with safe_open(path, framework="pt") as file:
            about = json.loads(file.metadata()["about"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (OSError, SafetensorError, TypeError, KeyError) as error:
        remedy = "make it with python -m evaluation.scenes.train_encoders"
        raise UserError(f"{path}: no weights of a scene encoder ({error}); {remedy}") from error
    floats = {name: tensor.float() if tensor.dtype == torch.float16 else tensor for name, tensor in tensors.items()}
    return floats, about, version
