"""Stable Diffusion 3.5 as a teacher, with a few-step LoRA or a second transformer.

The student must use the latents of Stable Diffusion 3's autoencoder (``encoders.vae`` with kind "sd3").
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pocketdit.config.component import Component
from pocketdit.encoders.contract import TextTokens
from pocketdit.teachers.architecture import Architecture, TextShape, component
from pocketdit.teachers.clip_text import ClipTextAndPooled
from pocketdit.teachers.diffusers_teacher import DiffusersTeacher
from pocketdit.teachers.t5_text import T5Text

TIME_SCALE = 1000


def velocity(transformer: Any, x_t: Tensor, time: Tensor, text: Sequence[TextTokens], _guidance: float) -> Tensor:
    """Return the velocity noise - x_0, which is the transformer's output.

    The embeddings of both CLIP models are concatenated and then padded to the width of T5's embeddings.
    """
    t5, small, large = (tokens.embeddings for tokens in text)
    clip = torch.cat([small, large], dim=-1)
    padded = F.pad(clip[:, 1:], (0, t5.shape[-1] - clip.shape[-1]))
    (prediction,) = transformer(
        hidden_states=x_t,
        timestep=TIME_SCALE * time,
        encoder_hidden_states=torch.cat([padded, t5], dim=1),
        pooled_projections=clip[:, 0],
        return_dict=False,
    )
    output: Tensor = prediction
    return output


def text_encoders(repository: str, revision: str | None, max_tokens: int, dtype: str) -> list[Component]:
    """Return the configurations of T5 and both CLIP models."""
    source = {"repository": repository, "revision": revision, "dtype": dtype}
    return [
        component(T5Text, folder="text_encoder_3", max_tokens=max_tokens, **source),
        component(ClipTextAndPooled, folder="text_encoder", **source),
        component(ClipTextAndPooled, folder="text_encoder_2", **source),
    ]


def text_shapes(config: Mapping[str, Any], _tokens: int, max_tokens: int) -> list[TextShape]:
    """Return the shapes of T5's tokens and of both CLIP models' tokens."""
    clip_tokens, small = 78, 768
    return [
        TextShape(max_tokens, config["joint_attention_dim"]),
        TextShape(clip_tokens, small),
        TextShape(clip_tokens, config["pooled_projection_dim"] - small),
    ]


# From the config.json of stabilityai/stable-diffusion-3.5-medium.
MEDIUM: dict[str, Any] = {
    "num_layers": 24, "num_attention_heads": 24, "attention_head_dim": 64, "caption_projection_dim": 1536,
    "pooled_projection_dim": 2048, "joint_attention_dim": 4096, "dual_attention_layers": tuple(range(13)),
    "qk_norm": "rms_norm", "pos_embed_max_size": 384,
}  # fmt: skip
SD3 = Architecture(
    name="Stable Diffusion 3.5",
    transformer="SD3Transformer2DModel",
    latents="sd3",
    velocity=velocity,
    text=text_encoders,
    text_shapes=text_shapes,
    max_tokens=256,
    is_packed=False,
    required={"patch_size": 2},
    lora_loader="SD3LoraLoaderMixin",
    published={"stabilityai/stable-diffusion-3.5-medium": MEDIUM},
)


class StableDiffusion3Teacher(DiffusersTeacher):
    """Stable Diffusion 3.5 (stabilityai/stable-diffusion-3.5-medium), with a few-step LoRA or transformer.

    ``lora`` can be tensorart/stable-diffusion-3.5-medium-turbo with the ``lora_file`` lora_sd3.5m_4steps.safetensors.
    ``max_tokens`` is the number of T5 tokens to which captions are padded, up to 512.
    """

    architecture = SD3
