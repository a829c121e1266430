"""FLUX.2 [klein] as a teacher: the base model, with the distilled model as its few-step version.

The student must use the latents of FLUX.2's autoencoder (``encoders.vae`` with kind "flux2").
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pocketdit.config.component import Component
from pocketdit.encoders.contract import TextTokens
from pocketdit.teachers.architecture import Architecture, TextShape, component, image_positions, pack, unpack
from pocketdit.teachers.diffusers_teacher import DiffusersTeacher
from pocketdit.teachers.qwen3_text import Qwen3TextEncoder

AXES = 4  # time, row, column, and position in the text


def velocity(transformer: Any, x_t: Tensor, time: Tensor, text: Sequence[TextTokens], _guidance: float) -> Tensor:
    """Return the velocity noise - x_0, which is the transformer's output."""
    prompt = text[0].embeddings
    positions = torch.zeros(prompt.shape[1], AXES, device=x_t.device)
    positions[:, -1] = torch.arange(prompt.shape[1], device=x_t.device)
    (prediction,) = transformer(
        hidden_states=pack(x_t),
        timestep=time,
        guidance=None,
        encoder_hidden_states=prompt,
        txt_ids=positions,
        img_ids=image_positions(x_t, AXES),
        return_dict=False,
    )
    return unpack(prediction, x_t.shape[-2:])


def text_encoders(repository: str, revision: str | None, max_tokens: int, dtype: str) -> list[Component]:
    """Return the configuration of the text encoder."""
    arguments = {"repository": repository, "revision": revision, "max_tokens": max_tokens, "dtype": dtype}
    return [component(Qwen3TextEncoder, layers=[9, 18, 27], thinking=False, padded=True, **arguments)]


def text_shapes(config: Mapping[str, Any], _tokens: int, max_tokens: int) -> list[TextShape]:
    """Return the shape of the text encoder's tokens."""
    return [TextShape(max_tokens, config["joint_attention_dim"])]


# From Klein4BParams in github.com/black-forest-labs/flux2.
KLEIN_4B: dict[str, Any] = {
    "num_layers": 5, "num_single_layers": 20, "num_attention_heads": 24, "joint_attention_dim": 7680,
    "guidance_embeds": False,
}  # fmt: skip
FLUX_2_KLEIN = Architecture(
    name="FLUX.2 [klein]",
    transformer="Flux2Transformer2DModel",
    latents="flux2",
    velocity=velocity,
    text=text_encoders,
    text_shapes=text_shapes,
    max_tokens=512,
    is_packed=True,
    blocks=("transformer_blocks", "single_transformer_blocks"),
    required={"guidance_embeds": False},  # excludes FLUX.2 [dev], whose text encoder differs
    published=dict.fromkeys(("black-forest-labs/FLUX.2-klein-base-4B", "black-forest-labs/FLUX.2-klein-4B"), KLEIN_4B),
)


class Flux2KleinTeacher(DiffusersTeacher):
    """FLUX.2 [klein] base (black-forest-labs/FLUX.2-klein-base-4B), with FLUX.2-klein-4B as ``few_step``.

    Captions are padded to ``max_tokens``, which includes the template and is at most 512. The transformer does not mask
    the padding, so the stored embeddings include it.
    """

    architecture = FLUX_2_KLEIN
