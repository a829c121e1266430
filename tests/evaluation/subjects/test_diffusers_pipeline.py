"""Tests for a tiny diffusers pipeline as the subject of an evaluation."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from evaluation.contract import Prompt, PromptSet, open_image
from evaluation.metrics.throughput import Throughput
from evaluation.subjects.diffusers_pipeline import DiffusersPipeline, guidance_argument
from pocketdit.config.component import Component
from pocketdit.errors import ConfigError, RunError, UserError


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    """A saved Stable Diffusion pipeline with a few thousand random weights."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.manual_seed(0)
    vocabulary = {word: i for i, word in enumerate(["<|startoftext|>", "<|endoftext|>", "a</w>", "red</w>", "a", "r"])}
    text = CLIPTextConfig(
        vocab_size=len(vocabulary), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=16, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    saved = StableDiffusionPipeline(
        vae=AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, latent_channels=4),
        text_encoder=CLIPTextModel(text),
        tokenizer=CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=16),
        unet=UNet2DConditionModel(
            sample_size=8, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=(8, 16),
            norm_num_groups=4, cross_attention_dim=16, attention_head_dim=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        ),
        scheduler=DDIMScheduler(), safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    saved.save_pretrained(tmp_path / "tiny-pipeline")
    return tmp_path / "tiny-pipeline"


@pytest.fixture(scope="module")
def qwen_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved Qwen-Image pipeline with a few thousand random weights and a tokenizer that splits text into bytes."""
    from diffusers import AutoencoderKLQwenImage, FlowMatchEulerDiscreteScheduler, QwenImagePipeline
    from diffusers import QwenImageTransformer2DModel as Transformer
    from tokenizers import pre_tokenizers
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2Tokenizer

    torch.manual_seed(0)
    sizes = {"intermediate_size": 16, "hidden_size": 16}
    text: dict[str, Any] = {
        **sizes, "num_hidden_layers": 1, "num_attention_heads": 1, "num_key_value_heads": 1, "vocab_size": 300,
        "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 1e4},
    }  # fmt: skip
    vision = {**sizes, "depth": 1, "num_heads": 2, "out_hidden_size": 16}
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pipeline = QwenImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=AutoencoderKLQwenImage(
            base_dim=8, z_dim=16, dim_mult=[1, 2, 4, 4], num_res_blocks=1, temperal_downsample=[False, True, True]
        ),
        text_encoder=Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=vision)),
        tokenizer=Qwen2Tokenizer(vocab={char: i for i, char in enumerate(alphabet)}, merges=[]),
        transformer=Transformer(
            patch_size=2, in_channels=64, out_channels=16, num_layers=2, attention_head_dim=16, num_attention_heads=2,
            joint_attention_dim=16, axes_dims_rope=(4, 6, 6),
        ),
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("pipelines") / "tiny-qwen-image"
    pipeline.save_pretrained(folder)
    return folder


def test_qwen_image_applies_the_guidance_that_is_recorded(qwen_image: Path, tmp_path: Path) -> None:
    """Qwen-Image ignores guidance_scale. It also ignores true_cfg_scale if there is no negative prompt."""
    prompts = PromptSet("p", (Prompt("a", "a red cat"), Prompt("b", "a dog")))
    options: dict[str, Any] = {"steps": 2, "size": (32, 32), "dtype": "float32"}

    def sample(**settings: Any) -> tuple[dict[str, Any], list[Any]]:
        images = DiffusersPipeline(str(qwen_image), **options | settings).images(prompts, tmp_path)
        return dict(images.provenance), [open_image(images.images[name][0]).astype(int) for name in ("a", "b")]

    made, guided = sample(guidance=4.5)
    assert (made["guidance"], made["guidance_argument"]) == (4.5, "true_cfg_scale")
    assert made["arguments"] == {"true_cfg_scale": 4.5, "negative_prompt": " "}
    made, plain = sample(guidance=1.0)
    assert (made["guidance"], made["arguments"]) == (1.0, {"true_cfg_scale": 1.0})
    assert all((a != b).any() for a, b in zip(guided, plain, strict=True))

    # A call as in the pipeline's documentation produces the same image.
    from diffusers import QwenImagePipeline

    pipeline = QwenImagePipeline.from_pretrained(qwen_image)
    generator = torch.Generator("cpu").manual_seed(0)
    expected = pipeline(
        prompt="a red cat", negative_prompt=" ", true_cfg_scale=4.5, num_inference_steps=2, height=32, width=32,
        generator=generator, output_type="np",
    ).images[0]  # fmt: skip
    assert np.abs(guided[0] - np.round(255 * expected)).max() <= 1

    _, batched = sample(guidance=4.5, batch_size=2)
    assert all(np.abs(a - b).max() <= 1 for a, b in zip(guided, batched, strict=True))
    made, own = sample(guidance=1.0, arguments={"true_cfg_scale": 4.5, "negative_prompt": " "}, seed=0)
    assert made["guidance"] == 4.5
    assert all((a == b).all() for a, b in zip(guided, own, strict=True))


def test_other_pipelines_apply_guidance_scale(pipeline: Path, tmp_path: Path) -> None:
    prompts = PromptSet("p", (Prompt("a", "a red"),))
    images = []
    for guidance in (1.0, 7.5):
        subject = DiffusersPipeline(str(pipeline), steps=2, guidance=guidance, size=(16, 16), dtype="float32")
        image_set = subject.images(prompts, tmp_path)
        assert (image_set.provenance["guidance"], image_set.provenance["guidance_argument"]) == (
            guidance,
            "guidance_scale",
        )
        images.append(open_image(image_set.images["a"][0]))
    assert (images[0] != images[1]).any()


def test_the_safety_checker_does_not_replace_images(pipeline: Path, tmp_path: Path) -> None:
    """Here, the checker flags every image, so the original pipeline returns black images."""
    from diffusers import StableDiffusionPipeline
    from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPImageProcessor

    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    vision = {**sizes, "image_size": 16, "patch_size": 8}
    checker = StableDiffusionSafetyChecker(CLIPConfig(vision_config=vision, projection_dim=8))
    checker.concept_embeds_weights.data.fill_(-2.0)
    parts = StableDiffusionPipeline.from_pretrained(pipeline, safety_checker=None).components
    processor = CLIPImageProcessor(size={"shortest_edge": 16}, crop_size=16)
    checked = StableDiffusionPipeline(**parts | {"safety_checker": checker, "feature_extractor": processor})
    checked.save_pretrained(tmp_path / "checked")
    own = checked("a red", num_inference_steps=2, height=16, width=16, output_type="np")
    assert own.nsfw_content_detected == [True]
    assert not own.images.any()
    prompts = PromptSet("p", (Prompt("a", "a red"),))
    shown = [
        open_image(DiffusersPipeline(str(path), steps=2, size=(16, 16), dtype="float32").images(prompts, tmp_path)
                   .images["a"][0])
        for path in (tmp_path / "checked", pipeline)
    ]  # fmt: skip
    assert shown[0].any()
    np.testing.assert_array_equal(shown[0], shown[1])


def test_prompts_that_the_text_encoder_does_not_read_to_their_end_are_counted(
    pipeline: Path, qwen_image: Path, tmp_path: Path
) -> None:
    """The tokenizer of Stable Diffusion reads 16 tokens here. That of Qwen-Image reads 512, or fewer on request."""
    texts = ("a", "a " * 14, "a " * 15, "a " * 600)
    prompts = PromptSet("p", tuple(Prompt(str(i), text) for i, text in enumerate(texts)))
    options: dict[str, Any] = {"steps": 1, "guidance": 1.0, "dtype": "float32"}
    subject = DiffusersPipeline(str(pipeline), size=(16, 16), **options)
    assert subject.images(prompts, tmp_path).provenance["truncated_prompts"] == {"tokenizer": 2}
    for arguments, expected in (({}, 1), ({"max_sequence_length": 20}, 3)):
        subject = DiffusersPipeline(str(qwen_image), size=(32, 32), arguments=arguments, **options)
        assert subject.images(prompts, tmp_path).provenance["truncated_prompts"] == {"tokenizer": expected}


def test_guidance_of_a_distilled_network_is_its_input() -> None:
    """FLUX.1-dev has a guidance input, and FLUX.1-schnell has none."""
    from diffusers import FluxPipeline, FluxTransformer2DModel

    for embeds, name in ((True, "guidance_scale"), (False, "true_cfg_scale")):
        transformer = FluxTransformer2DModel(
            in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=1,
            joint_attention_dim=8, pooled_projection_dim=8, guidance_embeds=embeds, axes_dims_rope=(4, 4, 8),
        )  # fmt: skip
        parts = dict.fromkeys(("scheduler", "vae", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"))
        assert guidance_argument(FluxPipeline(transformer=transformer, **parts)) == name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_inference_steps": 4}, "arguments.num_inference_steps: steps already determines it; remove it"),
        (
            {"guidance_rescal": 0.5},
            "arguments.guidance_rescal: .* has no such argument; did you mean 'guidance_rescale'?",
        ),
    ],
)
def test_invalid_arguments_are_reported(
    arguments: dict[str, Any], message: str, pipeline: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        DiffusersPipeline(str(pipeline), arguments=arguments).images(PromptSet("p", (Prompt("a", "x"),)), tmp_path)


def test_images_of_a_prompt_differ_and_do_not_depend_on_the_batch_size(pipeline: Path, tmp_path: Path) -> None:
    prompts = PromptSet("p", (Prompt("a", "a red"), Prompt("b", "a")), images_each=2)
    options: dict[str, Any] = {"steps": 2, "size": (16, 16), "dtype": "float32"}
    images = DiffusersPipeline(str(pipeline), batch_size=2, **options).images(prompts, tmp_path / "one")
    again = DiffusersPipeline(str(pipeline), batch_size=1, **options).images(prompts, tmp_path / "two")
    for name in ("a", "b"):
        for path, other in zip(images.images[name], again.images[name], strict=True):
            assert np.abs(open_image(path).astype(int) - open_image(other)).max() <= 1
    assert (open_image(images.images["a"][0]) != open_image(images.images["a"][1])).any()
    assert images.provenance["pipeline"] == "StableDiffusionPipeline"


def test_a_pipeline_that_yields_nan_is_not_scored(pipeline: Path, tmp_path: Path) -> None:
    """If NaN were not detected, it would become black pixels."""
    subject = DiffusersPipeline(str(pipeline), steps=1, size=(16, 16), dtype="float32")
    subject._load().vae.decoder.conv_out.bias.data[1] = float("nan")
    with pytest.raises(RunError, match="tiny-pipeline: 1 of 1 images contain NaN or infinity"):
        subject.images(PromptSet("p", (Prompt("a", "a red"),)), tmp_path / "images")
    assert not list((tmp_path / "images").rglob("*.png"))


def test_missing_pipeline_is_reported(tmp_path: Path) -> None:
    subject = DiffusersPipeline(str(tmp_path / "nothing"))
    with pytest.raises(UserError, match="cannot be loaded as a diffusers pipeline"):
        subject.images(PromptSet("p", (Prompt("a", "x"),)), tmp_path)


def test_throughput_of_a_pipeline(pipeline: Path) -> None:
    component = Component(
        "evaluation.subjects.diffusers_pipeline.DiffusersPipeline",
        {"model": str(pipeline), "steps": 2, "guidance": 2.0, "dtype": "float32"},
    )
    result = Throughput(component, size=(32, 32), max_batch=3, repeats=1).measure()
    assert result.scores["batch"].value == 3
    assert result.scores["overall"].value > 0
    assert result.protocol["subject"]["pipeline"] == "StableDiffusionPipeline"
    assert result.notes[0].endswith("larger batches were not tried (max_batch)")
