"""Loads a few-step LoRA, such as Qwen-Image-Lightning, into a transformer, and checks that all its weights fit."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from pocketdit.backbones.lora import activate_adapter, lora_layers
from pocketdit.encoders.checkpoints import explain_load_errors
from pocketdit.errors import RunError
from pocketdit.teachers.architecture import Architecture
from pocketdit.teachers.contract import FEW_STEP_ADAPTER


def add_lora(transformer: Any, file: Path, architecture: Architecture) -> None:
    """Add the LoRA to the transformer as an inactive adapter.

    Without the checks here, diffusers would only warn about weights that do not fit, or silently drop them.

    Args:
        transformer: The transformer.
        file: The LoRA in the safetensors format.
        architecture: The transformer's architecture.

    Raises:
        RunError: The file is corrupted, or not all of its weights fit the transformer.
    """
    from diffusers.loaders import lora_pipeline

    loader = getattr(lora_pipeline, architecture.lora_loader or "")
    try:
        with safe_open(file, "pt") as stored:
            names = list(stored.keys())
        # diffusers multiplies the weights by alpha / rank and renames them to transformer.LAYER.lora_A.weight. Weights
        # with neither this prefix nor an alpha keep their names and have a scale of 1.
        converted, metadata = loader.lora_state_dict(str(file), use_safetensors=True, return_lora_metadata=True)
        weights = {
            _without_prefix(name).replace("lora_down", "lora_A").replace("lora_up", "lora_B"): converted[name]
            for name in converted
        }
        adapted = _require_fit(weights, names, transformer, architecture.blocks, file)
        metadata = metadata and {_without_prefix(name): value for name, value in metadata.items()}
        transformer.load_lora_adapter(
            weights, prefix=None, adapter_name=FEW_STEP_ADAPTER, metadata=metadata, low_cpu_mem_usage=True
        )
    # KeyError: A or B of a layer is missing. TypeError: the metadata has an unknown entry. RuntimeError: the metadata
    # has the wrong rank.
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        reason = f"{type(error).__name__}: {error}".partition("\n")[0].rstrip(" .:")
        raise RunError(f"{file}: not a complete LoRA that peft can load: {reason}") from error
    if {name for name, _ in lora_layers(transformer)} != adapted:
        raise RunError(f"{file}: peft loaded only part of the LoRA")
    activate_adapter(transformer, None)


def _without_prefix(name: str) -> str:
    return name.removeprefix("transformer.")


def _require_fit(
    weights: dict[str, Tensor], stored: Collection[str], transformer: Any, lists: Collection[str], file: Path
) -> set[str]:
    """Check that the whole LoRA fits the transformer and return the names of the layers that it adapts.

    Every adapted layer must exist and have the right size, every block must have an adapted layer, and every tensor in
    the file must be used.

    Args:
        weights: Converted LoRA weights.
        stored: Names of all tensors in the file.
        transformer: The transformer.
        lists: Names of the transformer's lists of blocks.
        file: The file, for error messages.
    """
    modules = dict(transformer.named_modules())
    adapted = {name.rsplit(".lora_", 1)[0] for name in weights}
    for name in sorted(adapted):
        module = modules.get(name)
        if not isinstance(module, nn.Linear):
            raise RunError(f"{file}: the LoRA does not fit the transformer, which has no layer {name}")
        a, b = weights[f"{name}.lora_A.weight"], weights[f"{name}.lora_B.weight"]
        if (a.shape[1], *b.shape) != (module.in_features, module.out_features, a.shape[0]):
            raise RunError(f"{file}: the LoRA does not match the transformer: {name} has a different shape")
    blocks = [f"{name}.{i}" for name in lists for i in range(len(getattr(transformer, name)))]
    missing = [block for block in blocks if not any(name.startswith(f"{block}.") for name in adapted)]
    if missing:
        raise RunError(
            f"{file}: the LoRA has no weights for {len(missing)} of {len(blocks)} blocks, starting with {missing[0]}"
        )
    alphas = sum(name.endswith(".alpha") for name in stored)
    if len(stored) - alphas != 2 * len(adapted) or alphas not in (0, len(adapted)):
        raise RunError(
            f"{file}: not a complete LoRA: {len(stored)} tensors, but pairs of A and B for only {len(adapted)} layers"
        )
    return adapted


def find_lora(lora: str, name: str | None) -> Path:
    """Find the LoRA file on disk, or download it from the Hub."""
    description, path = "a few-step LoRA", Path(lora)
    if path.is_dir():
        files = sorted(path.glob("*.safetensors")) if name is None else [path / name]
        if len(files) != 1:
            raise RunError(f"{lora}: contains {len(files)} .safetensors files; choose one with lora_file")
        path = files[0]
    elif not path.is_file() and path.suffix != ".safetensors":
        if name is None:
            raise RunError(f"{lora}: no such file or folder; if it is on the Hugging Face Hub, set lora_file")
        from huggingface_hub import hf_hub_download

        with explain_load_errors(description, lora):
            path = Path(hf_hub_download(lora, name))
    if not path.is_file() or path.suffix != ".safetensors":
        raise RunError(f"{path}: no such .safetensors file; use one that contains {description}")
    return path
