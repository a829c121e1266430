"""Our runs and diffusers pipelines as what is evaluated, with real (tiny) weights."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from evaluation.contract import Prompt, PromptSet, open_image
from evaluation.subjects.diffusers_pipeline import DiffusersPipeline
from evaluation.subjects.run import Run
from pocketdit.commands.main import main
from pocketdit.errors import UserError
from tests.conftest import PRETRAIN

SIZED = PromptSet(
    "sized",
    (
        Prompt("a", "a red circle", {"width": 160, "height": 96}),
        Prompt("b", "a blue star"),
        Prompt("c", "a green square", {"width": 160, "height": 96}),
    ),
    images_each=2,
)


@pytest.fixture
def run(tiny: list[str], tmp_path: Path) -> Path:
    assert main(["run", str(PRETRAIN), *tiny, "training.max_steps=1"]) == 0
    return tmp_path / "runs"


def test_a_run_draws_each_prompt_in_its_size_whatever_its_batch(run: Path, tmp_path: Path) -> None:
    subject = Run("elastic_pretrain", width=0.5, steps=2, guidance=1.5, seed=3, runs=run)
    images = subject.images(SIZED, tmp_path / "images")
    shapes = {name: {open_image(path).shape for path in paths} for name, paths in images.images.items()}
    assert shapes == {"a": {(96, 160, 3)}, "b": {(128, 128, 3)}, "c": {(96, 160, 3)}}
    first, second = (open_image(path) for path in images.images["a"])
    assert (first != second).any()
    alone = Run("elastic_pretrain", width=0.5, steps=2, guidance=1.5, seed=3, batch_size=1, runs=run)
    again = alone.images(SIZED, tmp_path / "alone")
    for name in ("a", "b", "c"):
        for path, other in zip(images.images[name], again.images[name], strict=True):
            assert np.abs(open_image(path).astype(int) - open_image(other)).max() <= 1
    made = images.provenance
    assert (made["width"], made["steps"], made["guidance"], made["seed"]) == (0.5, 2, 1.5, 3)
    assert len(made["weights_sha256"]) == 64
    assert Run("elastic_pretrain", seed=4, runs=run).provenance() != Run("elastic_pretrain", runs=run).provenance()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"run": ""}, "run=EXPERIMENT"), ({"run": "elastic_pretrain", "width": 0.3}, "has no width 0.3; it has 0.5, 1")],
)
def test_wrong_runs_are_one_line(arguments: dict[str, Any], message: str, run: Path) -> None:
    with pytest.raises(UserError, match=message):
        Run(**arguments, runs=run)


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    """A Stable Diffusion pipeline of a few thousand random weights, saved as users' pipelines are."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.manual_seed(0)
    vocabulary = {word: i for i, word in enumerate(["<|startoftext|>", "<|endoftext|>", "a</w>", "red</w>", "a", "r"])}
    text = CLIPTextConfig(
        vocab_size=len(vocabulary), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=16, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    built = StableDiffusionPipeline(
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
    built.save_pretrained(tmp_path / "tiny-pipeline")
    return tmp_path / "tiny-pipeline"


def test_any_diffusers_pipeline_draws_the_same_for_the_same_seed(pipeline: Path, tmp_path: Path) -> None:
    prompts = PromptSet("p", (Prompt("a", "a red"), Prompt("b", "a")), images_each=2)
    options: dict[str, Any] = {"steps": 2, "size": (16, 16), "dtype": "float32"}
    images = DiffusersPipeline(str(pipeline), batch_size=2, **options).images(prompts, tmp_path / "one")
    again = DiffusersPipeline(str(pipeline), batch_size=1, **options).images(prompts, tmp_path / "two")
    for name in ("a", "b"):
        for path, other in zip(images.images[name], again.images[name], strict=True):
            assert np.abs(open_image(path).astype(int) - open_image(other)).max() <= 1
    assert (open_image(images.images["a"][0]) != open_image(images.images["a"][1])).any()
    assert images.provenance["pipeline"] == "StableDiffusionPipeline"


def test_a_missing_pipeline_is_one_line(tmp_path: Path) -> None:
    subject = DiffusersPipeline(str(tmp_path / "nothing"))
    with pytest.raises(UserError, match="not a diffusers pipeline"):
        subject.images(PromptSet("p", (Prompt("a", "x"),)), tmp_path)
