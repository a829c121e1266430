"""A tiny diffusers pipeline as the subject of an evaluation."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from evaluation.contract import Prompt, PromptSet, open_image
from evaluation.subjects.diffusers_pipeline import DiffusersPipeline
from pocketdit.errors import RunError, UserError


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
    """NaN would become black pixels."""
    subject = DiffusersPipeline(str(pipeline), steps=1, size=(16, 16), dtype="float32")
    subject._load().vae.decoder.conv_out.bias.data[1] = float("nan")
    with pytest.raises(RunError, match="tiny-pipeline: 1 of 1 images contain NaN or infinity"):
        subject.images(PromptSet("p", (Prompt("a", "a red"),)), tmp_path / "images")
    assert not list((tmp_path / "images").rglob("*.png"))


def test_missing_pipeline_is_reported(tmp_path: Path) -> None:
    subject = DiffusersPipeline(str(tmp_path / "nothing"))
    with pytest.raises(UserError, match="cannot be loaded as a diffusers pipeline"):
        subject.images(PromptSet("p", (Prompt("a", "x"),)), tmp_path)
