"""Tests that held-out prompts are validation captions, with equally many prompts per group."""

from collections import Counter

from datamodules.scenes.split import generate_scenes, split_of
from evaluation.scenes.prompts.held_out import GROUPS, held_out_prompts


def test_prompts_are_different_held_out_and_balanced() -> None:
    prompts = held_out_prompts(160, seed=0)
    assert len({p["prompt"] for p in prompts}) == 160
    assert all(split_of(p["prompt"]) == "validation" for p in prompts)
    assert Counter(p["tag"] for p in prompts) == dict.fromkeys(GROUPS, 40)
    assert all(len(p["include"]) == (2 if p["tag"] in ("color_attr", "position") else 1) for p in prompts)
    assert {(p["width"], p["height"]) for p in prompts} == {(128, 128), (160, 96), (96, 160)}
    assert prompts == held_out_prompts(160, seed=0) != held_out_prompts(160, seed=1)


def test_prompts_repeat_only_when_a_group_runs_out() -> None:
    prompts = [p["prompt"] for p in held_out_prompts(400, seed=0) if p["tag"] == "counting"]
    number = len(set(prompts))
    assert 30 < number < 100
    assert len(set(prompts[:number])) == number


def test_prompts_cover_the_captions_of_scenes() -> None:
    """The single-object prompts include the short captions of validation scenes with one object."""
    prompts = {p["prompt"] for p in held_out_prompts(800, seed=0) if p["tag"] == "single_object"}
    captions = {s.captions[0] for s in generate_scenes("validation", 60, seed=5) if len(s.scene.objects) == 1}
    assert captions <= prompts
