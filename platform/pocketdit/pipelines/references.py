"""Loads the published models that a pipeline refers to by name, instead of containing copies of them."""

from collections.abc import Mapping
from typing import Any

import torch

from pocketdit.encoders.checkpoints import explain_load_errors, require_complete
from pocketdit.encoders.outlines import AUTOENCODER_CLASSES

REFERENCE_KINDS = ("tokenizer", "clip", "gemma", *AUTOENCODER_CLASSES)


def load_reference(name: str, reference: Mapping[str, Any]) -> Any:
    """Load a tokenizer, a text encoder or an autoencoder from the Hugging Face Hub or its cache.

    Only files in the safetensors format are read.

    Args:
        name: Name of the component in the pipeline, for error messages.
        reference: The kind of model, its "repository", and optionally its "revision" and "dtype".

    Raises:
        RunError: The model cannot be loaded or is incomplete.
        ValueError: The kind of model is unknown.
    """
    kind, repository = reference["kind"], str(reference["repository"])
    if kind not in REFERENCE_KINDS:
        raise ValueError(f"references.{name}: unknown kind {kind!r}; valid: {', '.join(REFERENCE_KINDS)}")
    description = f"references.{name} of model_index.json"
    source: dict[str, Any] = {"revision": reference.get("revision")}
    options = {**source, "use_safetensors": True, "output_loading_info": True}
    dtype = getattr(torch, reference.get("dtype") or "float32")
    with explain_load_errors(description, repository):
        if kind == "tokenizer":
            from transformers import AutoTokenizer

            return AutoTokenizer.from_pretrained(repository, padding_side="right", **source)
        if kind in ("clip", "gemma"):
            from transformers import AutoModel, CLIPTextModel

            cls: Any = CLIPTextModel if kind == "clip" else AutoModel
            model, report = cls.from_pretrained(repository, dtype=dtype, **options)
            model = getattr(model, "language_model", model)
        else:
            import diffusers

            cls = getattr(diffusers, AUTOENCODER_CLASSES[kind])
            options |= {"subfolder": reference.get("subfolder"), "low_cpu_mem_usage": False}
            model, report = cls.from_pretrained(repository, torch_dtype=dtype, **options)
    require_complete(description, repository, report["missing_keys"])
    return model
