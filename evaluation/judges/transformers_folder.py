"""Loads models from local folders in transformers' format."""

import hashlib
from pathlib import Path
from typing import Any, Literal

import torch

from evaluation.contract import Backend
from pocketdit.encoders.checkpoints import explain_load_errors, require_complete
from pocketdit.errors import UserError
from pocketdit.files import sha256_of

DType = Literal["float32", "bfloat16"]


def load_config(path: Path, description: str, *model_types: str) -> Any:
    """Load the configuration of a model of one of the given types.

    Raises:
        UserError: The folder is missing or contains a model of a different type.
    """
    from transformers import AutoConfig

    with explain_load_errors(description, str(path)):
        config = AutoConfig.from_pretrained(str(path), local_files_only=True)
    if config.model_type not in model_types:
        expected = " or ".join(model_types)
        raise UserError(f"{path}: contains a model of type {config.model_type}, not {description} ({expected})")
    return config


def load_model(model_class: Any, path: Path, description: str, dtype: DType, device: str) -> Any:
    """Load a model in evaluation mode, without gradients.

    Raises:
        UserError: The folder is missing or incomplete.
    """
    with explain_load_errors(description, str(path)):
        model, report = model_class.from_pretrained(
            str(path),
            local_files_only=True,
            use_safetensors=True,
            dtype=getattr(torch, dtype),
            output_loading_info=True,
        )
    require_complete(description, str(path), report["missing_keys"])
    return model.to(device).eval().requires_grad_(False)


def folder_backend(path: Path, name: str | None, *settings: str, published_for: tuple[str, ...] = ()) -> Backend:
    """Return the identity of a model, with a hash of its weights, the version of transformers and other settings.

    Args:
        path: The model's folder.
        name: Name of the judge in results; None uses the folder's name.
        *settings: Settings that affect the answers.
        published_for: See ``Backend``.
    """
    from transformers import __version__

    digest = hashlib.sha256()
    for file in sorted(Path(path).glob("*.safetensors")):
        digest.update(bytes.fromhex(sha256_of(file)))
    version = [f"sha256 of the weights' sha256s {digest.hexdigest()[:16]}", f"transformers {__version__}", *settings]
    return Backend(name or Path(path).resolve().name, ", ".join(version), published_for)
