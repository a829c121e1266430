"""FLUX.1 as a teacher: FLUX.1 [schnell], which is a few-step model itself, and FLUX.1 [dev].

The student must use the latents of FLUX.1's autoencoder (``encoders.vae`` with kind "flux").
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pocketdit.config.component import Component
from pocketdit.encoders.contract import TextTokens
from pocketdit.teachers.architecture import Architecture, TextShape, component, image_positions, pack, unpack
from pocketdit.teachers.clip_text import ClipPooledText
from pocketdit.teachers.diffusers_teacher import DiffusersTeacher
from pocketdit.teachers.t5_text import T5Text


def velocity(transformer: Any, x_t: Tensor, time: Tensor, text: Sequence[TextTokens], guidance: float) -> Tensor:
    """Return the velocity noise - x_0, which is the transformer's output. All text tokens have position 0."""
    prompt, pooled = (tokens.embeddings for tokens in text)
    takes_guidance = transformer.config.guidance_embeds
    (prediction,) = transformer(
        hidden_states=pack(x_t),
        timestep=time,
        guidance=torch.full_like(time, guidance) if takes_guidance else None,
        pooled_projections=pooled[:, 0],
        encoder_hidden_states=prompt,
        txt_ids=torch.zeros(prompt.shape[1], 3, device=x_t.device),
        img_ids=image_positions(x_t, 3),
        return_dict=False,
    )
    return unpack(prediction, x_t.shape[-2:])


def text_encoders(repository: str, revision: str | None, max_tokens: int, dtype: str) -> list[Component]:
    """Return the configurations of T5 and CLIP."""
    source = {"repository": repository, "revision": revision, "dtype": dtype}
    return [
        component(T5Text, folder="text_encoder_2", max_tokens=max_tokens, **source),
        component(ClipPooledText, folder="text_encoder", **source),
    ]


def text_shapes(config: Mapping[str, Any], _tokens: int, max_tokens: int) -> list[TextShape]:
    """Return the shapes of T5's and CLIP's tokens."""
    return [TextShape(max_tokens, config["joint_attention_dim"]), TextShape(1, config["pooled_projection_dim"])]


FLUX_1 = Architecture(
    name="FLUX.1",
    transformer="FluxTransformer2DModel",
    latents="flux",
    velocity=velocity,
    text=text_encoders,
    text_shapes=text_shapes,
    max_tokens=256,
    is_packed=True,
    blocks=("transformer_blocks", "single_transformer_blocks"),
    required={"patch_size": 1, "in_channels": 64},  # models that edit images have more channels
    published={
        "black-forest-labs/FLUX.1-schnell": {},
        "black-forest-labs/FLUX.1-dev": {"guidance_embeds": True},
    },
)


class FluxTeacher(DiffusersTeacher):
    """FLUX.1 [schnell] (black-forest-labs/FLUX.1-schnell as both ``repository`` and ``few_step``), or FLUX.1 [dev].

    [schnell] was trained for one to four steps, so use it as a few-step teacher only. [dev] takes the guidance scale as
    an input instead of running twice. ``max_tokens`` is the number of T5 tokens to which captions are padded, up to
    512; the published pipeline uses 256 for [schnell].
    """

    architecture = FLUX_1
