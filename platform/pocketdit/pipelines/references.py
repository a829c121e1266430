"""Published models that a pipeline refers to by name instead of containing a copy."""

from collections.abc import Mapping
from typing import Any

import torch


def load_reference(reference: Mapping[str, Any]) -> Any:
    """Load a tokenizer, a text encoder or an autoencoder from the Hugging Face Hub or its cache.

    Only files in the safetensors format are read.

    Args:
        reference: The kind of model, its "repository", and optionally its "revision" and "dtype".

    Raises:
        ValueError: The kind is not known.
    """
    source = {"revision": reference.get("revision")}
    repository = reference["repository"]
    dtype = getattr(torch, reference.get("dtype") or "float32")
    match reference["kind"]:
        case "tokenizer":
            from transformers import AutoTokenizer

            return AutoTokenizer.from_pretrained(repository, padding_side="right", **source)
        case "clip":
            from transformers import CLIPTextModel

            return CLIPTextModel.from_pretrained(repository, dtype=dtype, use_safetensors=True, **source)
        case "gemma":
            from transformers import AutoModel

            model = AutoModel.from_pretrained(repository, dtype=dtype, use_safetensors=True, **source)
            return getattr(model, "language_model", model)
        case "flux" | "qwen_image":
            import diffusers

            loader = {"flux": diffusers.AutoencoderKL, "qwen_image": diffusers.AutoencoderKLQwenImage}
            subfolder = reference.get("subfolder")
            return loader[reference["kind"]].from_pretrained(
                repository, subfolder=subfolder, torch_dtype=dtype, use_safetensors=True, **source
            )
        case other:
            raise ValueError(f"unknown kind of reference: {other!r}")
