"""The LoRA of Qwen-Image-Lightning, put on a transformer of diffusers whole or not at all."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from pocketdit.backbones.lora import activate, layers
from pocketdit.errors import RunError

FEW_STEP = "few_step"


def add_lora(transformer: Any, file: Path) -> None:
    """Adds the LoRA, switched off. diffusers would only warn of weights that find no place, or drop them silently."""
    from diffusers.loaders.lora_pipeline import QwenImageLoraLoaderMixin

    try:
        with safe_open(file, "pt") as stored:
            names = list(stored.keys())
        # Scales by alpha / rank, and names the weights as in transformer.LAYER.lora_A.weight; but leaves alone what has
        # neither that prefix nor any alpha, and then the scale is 1.
        found, metadata = QwenImageLoraLoaderMixin.lora_state_dict(
            str(file), use_safetensors=True, return_lora_metadata=True
        )
        weights = {
            _bare(name).replace("lora_down", "lora_A").replace("lora_up", "lora_B"): found[name] for name in found
        }
        adapted = _require_fit(weights, names, transformer, file)
        metadata = metadata and {_bare(name): value for name, value in metadata.items()}
        transformer.load_lora_adapter(
            weights, prefix=None, adapter_name=FEW_STEP, metadata=metadata, low_cpu_mem_usage=True
        )
    # KeyError: half a pair. TypeError: metadata that peft does not know. RuntimeError: a rank other than it says.
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        reason = f"{type(error).__name__}: {error}".partition("\n")[0].rstrip(" .:")
        raise RunError(f"{file}: not a whole LoRA, or not one that peft can use: {reason}") from error
    if {name for name, _ in layers(transformer)} != adapted:
        raise RunError(f"{file}: peft took only a part of the LoRA")
    activate(transformer, None)


def _bare(name: str) -> str:
    return name.removeprefix("transformer.")


def _require_fit(weights: dict[str, Tensor], stored: Collection[str], transformer: Any, file: Path) -> set[str]:
    """Names of the layers that the LoRA (``weights``) changes. They exist, with its sizes, and some in every block;
    nothing that was ``stored`` in the file is left over.
    """
    modules = dict(transformer.named_modules())
    adapted = {name.rsplit(".lora_", 1)[0] for name in weights}
    for name in sorted(adapted):
        module = modules.get(name)
        if not isinstance(module, nn.Linear):
            raise RunError(f"{file}: the LoRA does not fit the transformer, which has no layer {name}")
        a, b = weights[f"{name}.lora_A.weight"], weights[f"{name}.lora_B.weight"]
        if (a.shape[1], *b.shape) != (module.in_features, module.out_features, a.shape[0]):
            raise RunError(f"{file}: the LoRA does not fit the transformer: {name} has another size")
    count = len(transformer.transformer_blocks)
    bare = [i for i in range(count) if not any(name.startswith(f"transformer_blocks.{i}.") for name in adapted)]
    if bare:
        raise RunError(f"{file}: the LoRA has nothing for {len(bare)} of {count} blocks, the first is block {bare[0]}")
    alphas = sum(name.endswith(".alpha") for name in stored)
    if len(stored) - alphas != 2 * len(adapted) or alphas not in (0, len(adapted)):
        raise RunError(f"{file}: not a whole LoRA: {len(stored)} tensors, but pairs for {len(adapted)} layers only")
    return adapted
