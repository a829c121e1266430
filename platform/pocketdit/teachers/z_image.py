"""Z-Image as a teacher on FLUX.1's latents. Z-Image-Turbo is its few-step version.

The student must use the latents of FLUX.1's autoencoder (``encoders.vae`` with kind "flux").
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pocketdit.config.component import Component
from pocketdit.encoders.contract import TextTokens
from pocketdit.teachers.architecture import Architecture, TextShape, component
from pocketdit.teachers.diffusers_teacher import DiffusersTeacher
from pocketdit.teachers.qwen3_text import Qwen3TextEncoder


def velocity(transformer: Any, x_t: Tensor, time: Tensor, text: Sequence[TextTokens], _guidance: float) -> Tensor:
    """Return the velocity. The transformer predicts x_0 - noise, and its time is 1 for data."""
    lengths = text[0].mask.sum(dim=1).tolist()
    captions = [row[:length] for row, length in zip(text[0].embeddings, lengths, strict=True)]
    (predictions,) = transformer(list(x_t[:, :, None].unbind()), 1 - time, captions, return_dict=False)
    return -torch.stack(predictions)[:, :, 0]


def text_encoders(repository: str, revision: str | None, max_tokens: int, dtype: str) -> list[Component]:
    """Return the configuration of the text encoder."""
    arguments = {"repository": repository, "revision": revision, "max_tokens": max_tokens, "dtype": dtype}
    return [component(Qwen3TextEncoder, layers=[-2], thinking=True, padded=False, **arguments)]


def text_shapes(config: Mapping[str, Any], tokens: int, max_tokens: int) -> list[TextShape]:
    """Return the shape of the text encoder's tokens."""
    return [TextShape(min(tokens, max_tokens), config["cap_feat_dim"])]


Z_IMAGE = Architecture(
    name="Z-Image",
    transformer="ZImageTransformer2DModel",
    latents="flux",
    velocity=velocity,
    text=text_encoders,
    text_shapes=text_shapes,
    max_tokens=512,
    is_packed=False,
    feature_width="dim",
    output="all_final_layer.2-1",
    blocks=("noise_refiner", "context_refiner", "layers"),
    required={"siglip_feat_dim": None},  # excludes variants that also read images
    published={"Tongyi-MAI/Z-Image": {}, "Tongyi-MAI/Z-Image-Turbo": {}},
)


class ZImageTeacher(DiffusersTeacher):
    """Z-Image (Tongyi-MAI/Z-Image), with Tongyi-MAI/Z-Image-Turbo as ``few_step``.

    The pipeline's ``guidance_scale`` is this project's guidance minus 1. ``max_tokens`` includes the whole template.
    """

    architecture = Z_IMAGE
