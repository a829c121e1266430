"""Models from folders in transformers' form."""

import hashlib
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor

from evaluation.contract import Backend
from pocketdit.encoders.checkpoints import explain_load_errors, require_complete
from pocketdit.errors import UserError
from pocketdit.files import sha256_of

DType = Literal["float32", "bfloat16"]


def ones(states: Tensor) -> Tensor:
    return torch.ones(states.shape[:2], dtype=torch.long, device=states.device)


def config_of(path: Path, what: str, kind: str) -> Any:
    from transformers import AutoConfig

    with explain_load_errors(what, str(path)):
        config = AutoConfig.from_pretrained(str(path), local_files_only=True)
    if config.model_type != kind:
        raise UserError(f"{path}: holds a model of type {config.model_type}, not {what} ({kind})")
    return config


def load_model(loader: Any, path: Path, what: str, dtype: DType, device: str) -> Any:
    with explain_load_errors(what, str(path)):
        model, report = loader.from_pretrained(
            str(path),
            local_files_only=True,
            use_safetensors=True,
            dtype=getattr(torch, dtype),
            output_loading_info=True,
        )
    require_complete(what, str(path), report["missing_keys"])
    return model.to(device).eval().requires_grad_(False)


def backend_of(path: Path, name: str | None, *settings: str) -> Backend:
    from transformers import __version__

    digest = hashlib.sha256()
    for file in sorted(Path(path).glob("*.safetensors")):
        digest.update(bytes.fromhex(sha256_of(file)))
    version = [f"sha256 of the weights' sha256s {digest.hexdigest()[:16]}", f"transformers {__version__}", *settings]
    return Backend(name or cast(str, Path(path).resolve().name), ", ".join(version))
