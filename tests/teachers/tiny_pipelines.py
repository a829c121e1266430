"""Builds a tiny diffusers pipeline with random weights for each family of teachers, and runs single steps."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pocketdit.teachers.diffusers_teacher import DiffusersTeacher
from pocketdit.teachers.flux import FluxTeacher
from pocketdit.teachers.flux2_klein import Flux2KleinTeacher
from pocketdit.teachers.krea2 import Krea2Teacher
from pocketdit.teachers.krea2_text import PREFIX, SUFFIX
from pocketdit.teachers.sd3 import StableDiffusion3Teacher
from pocketdit.teachers.z_image import ZImageTeacher

PROMPTS = ["a red circle", "two blue squares left of a small yellow star"]
MAX_TOKENS = 24
# The part of Qwen3's template that applies to one message without tools.
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)


def chat_tokenizer() -> Any:
    """Return a Qwen tokenizer that encodes each word of the template as one token, and other text as bytes."""
    from tokenizers import Tokenizer, pre_tokenizers
    from tokenizers.models import BPE
    from tokenizers.trainers import BpeTrainer
    from transformers import Qwen2Tokenizer

    trained = Tokenizer(BPE())
    trained.pre_tokenizer = Qwen2Tokenizer()._tokenizer.pre_tokenizer
    special_tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trained.train_from_iterator(
        [PREFIX + SUFFIX, *PROMPTS] * 2, BpeTrainer(initial_alphabet=alphabet, special_tokens=special_tokens)
    )
    model = json.loads(trained.to_str())["model"]
    tokenizer = Qwen2Tokenizer(vocab=model["vocab"], merges=[tuple(pair) for pair in model["merges"]])
    tokenizer.add_special_tokens({"additional_special_tokens": special_tokens[1:]})
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def clip_tokenizer() -> Any:
    from transformers import CLIPTokenizer

    words = ["<|startoftext|>", "<|endoftext|>", *(f"{letter}</w>" for letter in "abcdefghijklmnopqrstuvwxyz")]
    words += list("abcdefghijklmnopqrstuvwxyz")
    return CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[], model_max_length=12)


def t5_tokenizer() -> Any:
    from transformers import T5Tokenizer

    pieces = ["<pad>", "</s>", "<unk>", "▁", *"abcdefghijklmnopqrstuvwxyz"]
    return T5Tokenizer(vocab=[(piece, -float(i)) for i, piece in enumerate(pieces)], extra_ids=0, model_max_length=512)


def clip_config(width: int) -> Any:
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        vocab_size=60, hidden_size=width, intermediate_size=16, num_hidden_layers=3, num_attention_heads=2,
        projection_dim=width, max_position_embeddings=12, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip


def t5(width: int) -> Any:
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(
        T5Config(
            vocab_size=32, d_model=width, d_kv=8, d_ff=16, num_layers=2, num_heads=2, feed_forward_proj="gated-gelu"
        )
    )


def qwen3(layers: int) -> Any:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=512, hidden_size=16, intermediate_size=16, num_hidden_layers=layers, num_attention_heads=2,
            num_key_value_heads=1, head_dim=8,
        )
    )  # fmt: skip


def image_autoencoder(scale: float, shift: float) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 8, 8, 8), down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4, latent_channels=16, norm_num_groups=4, layers_per_block=1,
        use_quant_conv=False, use_post_quant_conv=False, scaling_factor=scale, shift_factor=shift,
    )  # fmt: skip


def flux2_autoencoder() -> Any:
    from diffusers import AutoencoderKLFlux2

    model = AutoencoderKLFlux2(block_out_channels=(8, 8, 8, 8), norm_num_groups=4, layers_per_block=1)
    model.bn.running_mean.copy_(torch.randn(128))
    model.bn.running_var.copy_(0.5 + torch.rand(128))
    return model


def scheduler(**options: Any) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(**options)


def z_image() -> Any:
    from diffusers import ZImagePipeline, ZImageTransformer2DModel

    transformer = ZImageTransformer2DModel(
        in_channels=16, dim=32, n_layers=2, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=16,
        axes_dims=[4, 6, 6], axes_lens=[1024, 32, 32],
    )  # fmt: skip
    for name in ("x_pad_token", "cap_pad_token"):
        torch.nn.init.normal_(getattr(transformer, name))
    return ZImagePipeline(
        scheduler(shift=3.0), image_autoencoder(0.3611, 0.1159), qwen3(2), chat_tokenizer(), transformer
    )


def flux(guidance_embeds: bool = False) -> Any:
    from diffusers import FluxPipeline, FluxTransformer2DModel
    from transformers import CLIPTextModel

    transformer = FluxTransformer2DModel(
        num_layers=2, num_single_layers=2, attention_head_dim=16, num_attention_heads=2, joint_attention_dim=16,
        pooled_projection_dim=24, axes_dims_rope=(4, 6, 6), guidance_embeds=guidance_embeds,
    )  # fmt: skip
    return FluxPipeline(
        scheduler(use_dynamic_shifting=True), image_autoencoder(0.3611, 0.1159), CLIPTextModel(clip_config(24)),
        clip_tokenizer(), t5(16), t5_tokenizer(), transformer,
    )  # fmt: skip


def klein() -> Any:
    from diffusers import Flux2KleinPipeline, Flux2Transformer2DModel

    transformer = Flux2Transformer2DModel(
        num_layers=2, num_single_layers=2, attention_head_dim=16, num_attention_heads=2, joint_attention_dim=48,
        axes_dims_rope=(4, 4, 4, 4), guidance_embeds=False,
    )  # fmt: skip
    return Flux2KleinPipeline(
        scheduler(use_dynamic_shifting=True), flux2_autoencoder(), qwen3(27), chat_tokenizer(), transformer
    )


def sd3() -> Any:
    from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline
    from transformers import CLIPTextModelWithProjection

    transformer = SD3Transformer2DModel(
        sample_size=16, num_layers=3, attention_head_dim=16, num_attention_heads=2, joint_attention_dim=64,
        caption_projection_dim=32, pooled_projection_dim=40, pos_embed_max_size=24, dual_attention_layers=(0,),
        qk_norm="rms_norm",
    )  # fmt: skip
    small, large = (CLIPTextModelWithProjection(clip_config(width)) for width in (16, 24))
    return StableDiffusion3Pipeline(
        transformer, scheduler(shift=3.0), image_autoencoder(1.5305, 0.0609), small, clip_tokenizer(), large,
        clip_tokenizer(), t5(64), t5_tokenizer(),
    )  # fmt: skip


def krea2() -> Any:
    from diffusers import AutoencoderKLQwenImage, Krea2Pipeline, Krea2Transformer2DModel
    from transformers import Qwen3VLConfig, Qwen3VLModel

    text: dict[str, Any] = {
        "vocab_size": 512, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 36,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16,
        "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 1e4},
    }  # fmt: skip
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16,
              "deepstack_visual_indexes": [0]}  # fmt: skip
    transformer = Krea2Transformer2DModel(
        num_layers=2, attention_head_dim=16, num_attention_heads=2, num_key_value_heads=1, intermediate_size=32,
        timestep_embed_dim=16, text_hidden_dim=16, text_num_attention_heads=2, text_num_key_value_heads=2,
        text_intermediate_size=16, num_layerwise_text_blocks=1, num_refiner_text_blocks=1, axes_dims_rope=(4, 6, 6),
    )  # fmt: skip
    vae = AutoencoderKLQwenImage(
        base_dim=8, z_dim=16, dim_mult=[1, 2, 4, 4], num_res_blocks=1, temperal_downsample=[False, True, True]
    )
    return Krea2Pipeline(
        scheduler(use_dynamic_shifting=True), vae, Qwen3VLModel(Qwen3VLConfig(text_config=text, vision_config=vision)),
        chat_tokenizer(), transformer,
    )  # fmt: skip


def packed(pipeline: Any, latents: Tensor) -> Tensor:
    tokens: Tensor = pipeline._pack_latents(latents, *latents.shape)
    return tokens


def same(_pipeline: Any, latents: Tensor) -> Tensor:
    return latents


def unpacked(pipeline: Any, tokens: Tensor, sides: tuple[int, int]) -> Tensor:
    height, width = (8 * side for side in sides)
    scale = [8] if type(pipeline).__name__ == "FluxPipeline" else []
    latents: Tensor = pipeline._unpack_latents(tokens, height, width, *scale)
    return latents.reshape(*latents.shape[:2], *sides)


def normalized(pipeline: Any, latents: Tensor, _sides: tuple[int, int]) -> Tensor:
    """Return the normalized latents that correspond to the autoencoder latents returned by the FLUX.2 pipeline."""
    bn = pipeline.vae.bn
    patches = F.pixel_unshuffle(latents, 2)
    mean, std = bn.running_mean.view(1, -1, 1, 1), (bn.running_var.view(1, -1, 1, 1) + 1e-4).sqrt()
    return F.pixel_shuffle((patches - mean) / std, 2)


@dataclass(frozen=True)
class Family:
    """Describes how the tiny pipeline of a family is built and called.

    Attributes:
        teacher: Class of the teacher to compare with the pipeline.
        build: Function that builds the pipeline.
        guidance: Function that maps the guidance scale to keyword arguments of the pipeline.
        before: Function that maps (pipeline, latents) to the latents that the pipeline accepts.
        after: Function that maps (pipeline, result, sides) to the latents of the pipeline's result.
        features: Function that maps (output of the last block, number of image tokens) to the features.
        last: Name of the last block.
        channels: Number of latent channels.
    """

    teacher: type[DiffusersTeacher]
    build: Callable[[], Any]
    guidance: Callable[[float], dict[str, Any]]
    before: Callable[[Any, Tensor], Tensor]
    after: Callable[[Any, Tensor, tuple[int, int]], Tensor]
    features: Callable[[Any, int], Tensor]
    last: str
    channels: int = 16


FAMILIES = {
    "z_image": Family(
        ZImageTeacher, z_image, lambda scale: {"guidance_scale": scale - 1}, same, lambda _, result, __: result,
        lambda output, tokens: output[:, :tokens], "layers.1",
    ),
    "flux": Family(
        FluxTeacher, flux,
        lambda scale: {"true_cfg_scale": scale, "negative_prompt": [""] * 2, "max_sequence_length": MAX_TOKENS},
        packed, unpacked, lambda output, _: output[1], "single_transformer_blocks.1",
    ),
    "flux_guidance": Family(
        FluxTeacher, lambda: flux(guidance_embeds=True),
        lambda scale: {"guidance_scale": scale, "max_sequence_length": MAX_TOKENS},
        packed, unpacked, lambda output, _: output[1], "single_transformer_blocks.1",
    ),
    "klein": Family(
        Flux2KleinTeacher, klein, lambda scale: {"guidance_scale": scale, "max_sequence_length": MAX_TOKENS},
        lambda _, latents: F.pixel_unshuffle(latents, 2), normalized, lambda output, tokens: output[:, -tokens:],
        "single_transformer_blocks.1", channels=32,
    ),
    "sd3": Family(
        StableDiffusion3Teacher, sd3, lambda scale: {"guidance_scale": scale, "max_sequence_length": MAX_TOKENS},
        same, lambda _, result, __: result, lambda output, _: output[1], "transformer_blocks.2",
    ),
    "krea2": Family(
        Krea2Teacher, krea2, lambda scale: {"guidance_scale": scale - 1, "max_sequence_length": MAX_TOKENS},
        packed, unpacked, lambda output, tokens: output[:, -tokens:], "transformer_blocks.1",
    ),
}  # fmt: skip


def save(family: Family, folder: Path, seed: int = 0) -> Any:
    """Build the pipeline of a family, save it in the layout of a repository on the Hub, and return it."""
    torch.manual_seed(seed)
    pipeline = family.build()
    for module in pipeline.components.values():
        if isinstance(module, nn.Module):
            module.eval()
    pipeline.save_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def step(family: Family, pipeline: Any, noisy: Tensor, guidance: float, prompts: list[str]) -> tuple[Tensor, float]:
    """Return the velocity of a single pipeline step from ``noisy`` to data, and the time at which the step starts."""
    sides = (noisy.shape[-2], noisy.shape[-1])
    height, width = (8 * side for side in sides)
    result = pipeline(
        prompt=list(prompts), height=height, width=width, num_inference_steps=1, sigmas=[0.6],
        latents=family.before(pipeline, noisy), output_type="latent", **family.guidance(guidance),
    ).images  # fmt: skip
    time, end = pipeline.scheduler.sigmas.tolist()
    assert 0.55 < time < 0.95
    assert end == 0
    assert abs(pipeline.scheduler.timesteps.item() - 1000 * time) < 1e-3
    # v = noise - x_0 implies x_0 = x_t - t v.
    return (noisy - family.after(pipeline, result, sides)) / time, time
