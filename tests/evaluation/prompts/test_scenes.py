"""Tests for the prompt sets of rendered scenes."""

import pytest

from evaluation.prompts.scenes import HeldOutCaptions, SceneCompBench, SceneDPG, SceneGenEval
from pocketdit.errors import ConfigError


def test_prompt_sets_have_the_formats_of_the_benchmarks() -> None:
    assert len(SceneGenEval(12, images_each=2).load().prompts) == 12
    assert all("questions" in prompt.metadata for prompt in SceneDPG(3).load().prompts)
    assert {prompt.metadata["category"] for prompt in SceneCompBench("color", 4).load().prompts} == {"color"}


def test_held_out_captions_keep_their_order_and_sizes() -> None:
    from evaluation.scenes.prompts.held_out import held_out_prompts

    prompts = HeldOutCaptions(8, seed=3, images_each=2).load()
    expected = held_out_prompts(8, seed=3)
    assert prompts.images_each == 2
    assert [prompt.id for prompt in prompts.prompts] == [f"{i:05d}" for i in range(8)]
    assert [prompt.text for prompt in prompts.prompts] == [item["prompt"] for item in expected]
    assert [dict(prompt.metadata) for prompt in prompts.prompts] == expected


def test_images_per_prompt_must_be_positive() -> None:
    with pytest.raises(ConfigError, match="images_each must be at least 1, not 0"):
        SceneGenEval(2, images_each=0).load()
