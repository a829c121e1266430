"""Qwen-Image without its weights, for cost estimates."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch

from pocketdit.encoders.outlines import Outline

QWEN_IMAGE = "Qwen/Qwen-Image"
# From the config.json of Qwen/Qwen-Image. The settings of its transformer are the defaults of diffusers.
TEXT_ENCODER: dict[str, Any] = {
    "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
    "num_key_value_heads": 4, "vocab_size": 152064,
}  # fmt: skip


class TeacherOutline(NamedTuple):
    """A teacher with random weights.

    Attributes:
        network: The teacher's network. ``run`` takes the batch size and the latents' height and width.
        text_encoder: The teacher's text encoder, if it is large enough to matter. ``run`` takes the batch size.
        feature_width: Size of the teacher's features.
    """

    network: Outline
    text_encoder: Outline | None
    feature_width: int


def qwen_image_outline(
    repository: str, tokens: int, prefix: int, dtype: torch.dtype, device: torch.device
) -> TeacherOutline | None:
    """Return the outline of Qwen-Image.

    Args:
        repository: A folder, or the name of a repository on the hub.
        tokens: Number of text tokens that the transformer reads.
        prefix: Number of tokens before them that only the text encoder reads.
        dtype: Precision of the weights and the computation.
        device: Device of the networks.
    """
    from diffusers import QwenImageTransformer2DModel
    from transformers.models.qwen2_5_vl import Qwen2_5_VLTextConfig, Qwen2_5_VLTextModel

    settings = stored_settings(Path(repository))
    if settings is None:
        return None
    transformer_settings, text_settings = settings
    with device:
        transformer = QwenImageTransformer2DModel.from_config(transformer_settings).to(dtype).eval()
        text_encoder = Qwen2_5_VLTextModel(Qwen2_5_VLTextConfig(**text_settings)).to(dtype).eval()
    patch = transformer.config.patch_size

    def predict(batch: int, height: int, width: int) -> object:
        grid = (height // patch, width // patch)
        image = torch.zeros(batch, grid[0] * grid[1], transformer.config.in_channels, dtype=dtype, device=device)
        text = torch.zeros(batch, tokens, transformer.config.joint_attention_dim, dtype=dtype, device=device)
        return transformer(
            hidden_states=image,
            timestep=torch.zeros(batch, device=device),
            encoder_hidden_states=text,
            img_shapes=[[(1, *grid)]] * batch,
            return_dict=False,
        )

    def encode(batch: int) -> object:
        embeddings = torch.zeros(batch, prefix + tokens, text_encoder.config.hidden_size, dtype=dtype, device=device)
        return text_encoder(inputs_embeds=embeddings, use_cache=False)

    return TeacherOutline(Outline(transformer, predict), Outline(text_encoder, encode), transformer.inner_dim)


def stored_settings(folder: Path) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Return the settings of the transformer and of the text encoder, or None if they need a download."""
    if not folder.is_dir():
        return ({}, TEXT_ENCODER) if str(folder) == QWEN_IMAGE else None
    transformer = json.loads((folder / "transformer" / "config.json").read_text())
    text_encoder = json.loads((folder / "text_encoder" / "config.json").read_text())
    return transformer, text_encoder.get("text_config", text_encoder)
