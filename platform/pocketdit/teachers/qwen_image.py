"""Qwen-Image (arXiv 2508.02324) as a teacher, with Qwen-Image-Lightning as its few-step LoRA.

The student must use the latents of Qwen-Image's autoencoder (``encoders.vae`` with kind "qwen_image").
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from pocketdit.config.component import Component
from pocketdit.encoders.contract import TextTokens
from pocketdit.teachers.architecture import (
    PATCH_SIZE,
    Architecture,
    TextShape,
    component,
    linear_guidance,
    pack,
    unpack,
    visible_or_none,
)
from pocketdit.teachers.diffusers_teacher import DiffusersTeacher
from pocketdit.teachers.qwen_image_text import QwenImageTextEncoder


def velocity(transformer: Any, x_t: Tensor, time: Tensor, text: Sequence[TextTokens], _guidance: float) -> Tensor:
    """Return the velocity.

    The output is noise - x_0 with t = sigma, because diffusers' FlowMatchEulerDiscreteScheduler defines
    x = sigma noise + (1 - sigma) x_0 and steps to x + (sigma' - sigma) v.
    """
    (prediction,) = transformer(
        hidden_states=pack(x_t),
        timestep=time,
        encoder_hidden_states=text[0].embeddings,
        encoder_hidden_states_mask=visible_or_none(text[0]),
        img_shapes=[[(1, *(side // PATCH_SIZE for side in x_t.shape[-2:]))]] * len(x_t),
        return_dict=False,
    )
    return unpack(prediction, x_t.shape[-2:])


def renormalized_guidance(cond: Tensor, uncond: Tensor, guidance: float) -> Tensor:
    """Apply classifier-free guidance and rescale every token to its norm in ``cond``, as in QwenImagePipeline."""
    tokens, combined = pack(cond), pack(linear_guidance(cond, uncond, guidance))
    norm = combined.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    return unpack(combined * (tokens.norm(dim=-1, keepdim=True) / norm), cond.shape[-2:])


def text_encoders(repository: str, revision: str | None, max_tokens: int, dtype: str) -> list[Component]:
    """Return the configuration of the text encoder."""
    arguments = {"repository": repository, "revision": revision, "max_tokens": max_tokens, "dtype": dtype}
    return [component(QwenImageTextEncoder, **arguments)]


def text_shapes(config: Mapping[str, Any], tokens: int, max_tokens: int) -> list[TextShape]:
    """Return the shape of the text encoder's tokens."""
    return [TextShape(min(tokens, max_tokens), config["joint_attention_dim"])]


QWEN_IMAGE = Architecture(
    name="Qwen-Image",
    transformer="QwenImageTransformer2DModel",
    latents="qwen_image",
    velocity=velocity,
    text=text_encoders,
    text_shapes=text_shapes,
    max_tokens=512,
    is_packed=True,
    guide=renormalized_guidance,
    # Variants with different values need more inputs than an image and text.
    required={"patch_size": 2, "guidance_embeds": False, "use_additional_t_cond": False, "use_layer3d_rope": False},
    lora_loader="QwenImageLoraLoaderMixin",
    published={"Qwen/Qwen-Image": {}},
)


class QwenImageTeacher(DiffusersTeacher):
    """Qwen-Image (Qwen/Qwen-Image), with the LoRA of lightx2v/Qwen-Image-Lightning as the few-step teacher.

    ``max_tokens`` limits the length of a caption, including the end of the template, and is at most 1024.
    """

    architecture = QWEN_IMAGE
