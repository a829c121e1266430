"""Krea 2 as a teacher on Qwen-Image's latents. Krea 2 Turbo is its few-step version.

The student must use the latents of Qwen-Image's autoencoder (``encoders.vae`` with kind "qwen_image").
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pocketdit.config.component import Component
from pocketdit.encoders.contract import TextTokens
from pocketdit.teachers.architecture import (
    Architecture,
    TextShape,
    component,
    image_positions,
    pack,
    unpack,
    visible_or_none,
)
from pocketdit.teachers.diffusers_teacher import DiffusersTeacher
from pocketdit.teachers.krea2_text import Krea2TextEncoder


def velocity(transformer: Any, x_t: Tensor, time: Tensor, text: Sequence[TextTokens], _guidance: float) -> Tensor:
    """Return the velocity noise - x_0, which is the transformer's output. All text tokens have position 0."""
    config = transformer.config
    embeddings = torch.unflatten(text[0].embeddings, -1, (config.num_text_layers, config.text_hidden_dim))
    origin = torch.zeros(embeddings.shape[1], 3, device=x_t.device)
    (prediction,) = transformer(
        hidden_states=pack(x_t),
        encoder_hidden_states=embeddings,
        timestep=time,
        position_ids=torch.cat([origin, image_positions(x_t, 3)]),
        encoder_attention_mask=visible_or_none(text[0]),
        return_dict=False,
    )
    return unpack(prediction, x_t.shape[-2:])


def text_encoders(repository: str, revision: str | None, max_tokens: int, dtype: str) -> list[Component]:
    """Return the configuration of the text encoder."""
    arguments = {"repository": repository, "revision": revision, "max_tokens": max_tokens, "dtype": dtype}
    return [component(Krea2TextEncoder, **arguments)]


def text_shapes(config: Mapping[str, Any], tokens: int, max_tokens: int) -> list[TextShape]:
    """Return the shape of the text encoder's tokens."""
    return [TextShape(min(tokens, max_tokens), config["num_text_layers"] * config["text_hidden_dim"])]


KREA_2 = Architecture(
    name="Krea 2",
    transformer="Krea2Transformer2DModel",
    latents="qwen_image",
    velocity=velocity,
    text=text_encoders,
    text_shapes=text_shapes,
    max_tokens=512,
    is_packed=True,
    feature_width="hidden_size",
    output="final_layer",
    published={"krea/Krea-2-Raw": {}, "krea/Krea-2-Turbo": {}},
)


class Krea2Teacher(DiffusersTeacher):
    """Krea 2 Raw (krea/Krea-2-Raw), with krea/Krea-2-Turbo as ``few_step``.

    The pipeline's ``guidance_scale`` is this project's guidance minus 1. ``max_tokens`` limits the length of a
    caption, including the end of the template, and is at most 512.
    """

    architecture = KREA_2
