"""Teachers' text encoders without their weights, for cost estimates that download nothing."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pocketdit.encoders.outlines import Outline, clip_text_outline

# From the config.json of each repository.
QWEN_2_5_VL: dict[str, dict[str, Any]] = {
    "Qwen/Qwen-Image": {
        "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
        "num_key_value_heads": 4, "vocab_size": 152064,
    },
}  # fmt: skip
QWEN3_4B: dict[str, Any] = {
    "hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36, "num_attention_heads": 32,
    "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936,
}  # fmt: skip
QWEN3: dict[str, dict[str, Any]] = dict.fromkeys(
    (
        "Tongyi-MAI/Z-Image",
        "Tongyi-MAI/Z-Image-Turbo",
        "black-forest-labs/FLUX.2-klein-base-4B",
        "black-forest-labs/FLUX.2-klein-4B",
    ),
    QWEN3_4B,
)
QWEN3_VL: dict[str, dict[str, Any]] = dict.fromkeys(("krea/Krea-2-Raw", "krea/Krea-2-Turbo"), QWEN3_4B)
T5_XXL: dict[str, Any] = {
    "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64, "vocab_size": 32128,
    "feed_forward_proj": "gated-gelu",
}  # fmt: skip
FLUX_1 = ("black-forest-labs/FLUX.1-schnell", "black-forest-labs/FLUX.1-dev")
SD3_5 = ("stabilityai/stable-diffusion-3.5-medium", "stabilityai/stable-diffusion-3.5-large")
T5: dict[str, dict[str, Any]] = dict.fromkeys((*FLUX_1, *SD3_5), T5_XXL)
CLIP_L: dict[str, Any] = {
    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
    "projection_dim": 768,
}  # fmt: skip
CLIP_BIG_G: dict[str, Any] = {
    "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20,
    "projection_dim": 1280, "hidden_act": "gelu",
}  # fmt: skip
CLIP: dict[str, dict[str, dict[str, Any]]] = {
    "text_encoder": dict.fromkeys((*FLUX_1, *SD3_5), CLIP_L),
    "text_encoder_2": dict.fromkeys(SD3_5, CLIP_BIG_G),
}  # by the folder of the text encoder


def stored_config(repository: str, folder: str, known: Mapping[str, dict[str, Any]]) -> dict[str, Any] | None:
    """Return the settings of a model in a folder of a repository, or None if they are not known without a download."""
    file = Path(repository) / folder / "config.json"
    if not file.is_file():
        return known.get(repository)
    config: dict[str, Any] = json.loads(file.read_text())
    return config


def language_model_outline(
    kind: str,
    known: Mapping[str, dict[str, Any]],
    repository: str,
    tokens: int,
    dtype: torch.dtype,
    device: torch.device,
    folder: str = "text_encoder",
) -> Outline | None:
    """Return the outline of a language model. ``run`` takes the batch size, and skips the embedding lookup.

    Args:
        kind: Type of the model in transformers.
        known: Mapping from repositories on the Hub to the settings of their text encoders.
        repository: A folder, or the name of a repository on the Hub.
        tokens: Number of tokens of each caption.
        dtype: Precision of the weights and the computation.
        device: Device of the network.
        folder: Folder of the text encoder in the repository.
    """
    config = stored_config(repository, folder, known)
    if config is None:
        return None
    from transformers import AutoConfig, AutoModel, T5EncoderModel

    settings = AutoConfig.for_model(kind, **_own(config.get("text_config", config)))
    with device:
        network = (T5EncoderModel(settings) if kind == "t5" else AutoModel.from_config(settings)).to(dtype).eval()
    width = settings.hidden_size

    def run(batch: int) -> object:
        embeddings = torch.zeros(batch, tokens, width, dtype=dtype, device=device)
        return network(inputs_embeds=embeddings) if kind == "t5" else network(inputs_embeds=embeddings, use_cache=False)

    return Outline(network, run)


def clip_outline(
    repository: str, folder: str, projected: bool, dtype: torch.dtype, device: torch.device
) -> Outline | None:
    """Return the outline of a CLIP text model, which encodes captions of its maximum length.

    Args:
        repository: A folder, or the name of a repository on the Hub.
        folder: Folder of the text encoder in the repository.
        projected: Whether the model includes the projection of its pooled output.
        dtype: Precision of the weights and the computation.
        device: Device of the network.
    """
    config = stored_config(repository, folder, CLIP[folder])
    if config is None:
        return None
    from transformers import CLIPTextConfig

    settings = CLIPTextConfig(**_own(config))
    return clip_text_outline(settings, settings.max_position_embeddings, dtype, device, projected)


def _own(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the model's settings, except its type and the dtype of its weights, which are passed separately."""
    return {name: value for name, value in config.items() if name not in ("model_type", "dtype", "torch_dtype")}
