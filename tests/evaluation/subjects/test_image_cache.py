"""Tests that images are sampled once, stored under a hash of all that determines them, and shared among processes."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.contract import ImageArray, Prompt, PromptSet, open_image
from evaluation.subjects.image_cache import (
    Rank,
    image_folder,
    rank_from_environment,
    sample_images,
    stored_images,
    wait_for,
)
from pocketdit.errors import RunError, UserError

PROMPTS = PromptSet("three", tuple(Prompt(f"{i:05d}", f"text {i}", {"tag": "x"}) for i in range(3)), images_each=2)


class ConstantSampler:
    """Samples gray images that encode the prompt and the image index, and is interrupted after ``limit`` images."""

    def __init__(self, seed: int = 0, limit: int = 100) -> None:
        self.seed, self.limit, self.count = seed, limit, 0

    def provenance(self) -> dict[str, Any]:
        return {"subject": "constant", "seed": self.seed}

    def sample(self, prompts: Sequence[Prompt], number: int) -> Iterator[tuple[Prompt, ImageArray]]:
        for prompt in prompts:
            if self.count == self.limit:
                raise KeyboardInterrupt
            self.count += 1
            yield prompt, np.full((8, 8, 3), 10 * int(prompt.id) + number, np.uint8)


def test_interrupted_call_resumes_and_a_second_call_samples_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        sample_images(ConstantSampler(limit=4), PROMPTS, tmp_path)
    resumed = ConstantSampler()
    images = sample_images(resumed, PROMPTS, tmp_path)
    assert resumed.count == 2
    for prompt in PROMPTS.prompts:
        values = [int(open_image(path)[0, 0, 0]) for path in images.images[prompt.id]]
        assert values == [10 * int(prompt.id), 10 * int(prompt.id) + 1]
    again = ConstantSampler()
    assert sample_images(again, PROMPTS, tmp_path) == images
    assert again.count == 0
    manifest = json.loads((image_folder(tmp_path, again.provenance(), PROMPTS) / "manifest.json").read_text())
    assert manifest["made"] == again.provenance()
    assert len(manifest["prompts"]["prompts"]) == 3


def test_everything_that_determines_an_image_changes_the_folder(tmp_path: Path) -> None:
    other = PromptSet("three", (*PROMPTS.prompts[:2], Prompt("00002", "other text")), images_each=2)
    samplers, prompt_sets = [ConstantSampler(seed) for seed in (0, 1)], (PROMPTS, other)
    folders = {image_folder(tmp_path, s.provenance(), prompts) for s in samplers for prompts in prompt_sets}
    assert len(folders) == 4


def test_ranks_share_the_prompts_and_return_all_images(tmp_path: Path) -> None:
    samplers = [ConstantSampler(), ConstantSampler()]
    (tmp_path / "x").mkdir()
    with pytest.raises(RunError, match="images from other processes"):
        wait_for([tmp_path / "x" / "never.png"], patience=0.0)
    folder = image_folder(tmp_path, samplers[1].provenance(), PROMPTS)
    for prompt in PROMPTS.prompts[::2]:  # the prompts of rank 0
        for number in range(2):
            path = folder / prompt.id / f"{number:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"from rank 0")  # rank 1 does not open this file
    images = sample_images(samplers[1], PROMPTS, tmp_path, Rank(1, 2))
    assert samplers[1].count == 2
    assert set(images.images) == {"00000", "00001", "00002"}
    assert rank_from_environment({"RANK": "3", "WORLD_SIZE": "8"}) == Rank(3, 8)
    assert rank_from_environment({"SLURM_PROCID": "1", "SLURM_NTASKS": "2"}) == Rank(1, 2)
    assert rank_from_environment({}) == Rank(0, 1)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ((), "no prompts"),
        (("a", "a"), "duplicate id 'a'"),
        (("../a",), "is not a plain file name"),
        ((".a",), "is not a plain file name"),
        (("a\0b",), "is not a plain file name"),
        (("a\nb",), "is not a plain file name"),
        (("\ud800",), "is not a plain file name"),
        (("x" * 201,), r"the id 'x{40}'\.\.\. is not a plain file name of at most 200 bytes"),
        (("é" * 101,), "of at most 200 bytes"),
    ],
)
def test_ids_that_cannot_be_file_names_are_errors(ids: tuple[str, ...], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        sample_images(ConstantSampler(), PromptSet("bad", tuple(Prompt(name, "x") for name in ids)), tmp_path)


def test_truncated_image_is_reported_and_sampled_again(tmp_path: Path) -> None:
    images = sample_images(ConstantSampler(), PROMPTS, tmp_path)
    path = images.images["00001"][0]
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(UserError, match=r"0000\.png: cannot be decoded"):
        open_image(path)
    again = ConstantSampler()
    sample_images(again, PROMPTS, tmp_path)
    assert again.count == 1
    assert open_image(path).shape == (8, 8, 3)
    path.unlink()
    with pytest.raises(UserError, match="no such image"):
        open_image(path)


def test_complete_image_sets_are_read_from_their_folder(tmp_path: Path) -> None:
    other = PromptSet("a", (Prompt("z", "text z"),))
    sampled = [sample_images(ConstantSampler(seed), PROMPTS, tmp_path) for seed in (0, 1)]
    with pytest.raises(ValueError, match="invalid literal"):
        sample_images(ConstantSampler(), other, tmp_path)  # its id is not a number, so its manifest has no image
    found = stored_images(tmp_path)
    assert [image_set.prompts.name for image_set in found] == ["three", "three"]
    assert sorted(image_set.provenance["seed"] for image_set in found) == [0, 1]
    for image_set in found:
        (expected,) = (each for each in sampled if each.provenance == image_set.provenance)
        assert image_set.images == expected.images
        assert [prompt.text for prompt in image_set.prompts.prompts] == ["text 0", "text 1", "text 2"]
    next(iter(sampled[1].images.values()))[1].unlink()
    assert [image_set.provenance["seed"] for image_set in stored_images(tmp_path)] == [0]


@pytest.mark.parametrize(
    "content",
    [
        "", "[]", "[" * 100_000, '{"prompts": 3}',
        '{"made": {}, "prompts": {"name": "a", "images_each": 1, "prompts": []}}',
        '{"made": {}, "prompts": {"name": "a", "images_each": 1, "prompts": [{"id": "../a", "text": "x"}]}}',
        '{"made": {}, "prompts": {"name": "a", "images_each": 0, "prompts": [{"id": "a", "text": "x"}]}}',
        '{"made": {}, "prompts": {"name": "a", "images_each": 1, "prompts": [{"id": "a", "text": "\\ud800"}]}}',
    ],
    ids=["empty", "list", "deep", "no prompts", "no prompt", "path", "no images", "surrogate"],
)  # fmt: skip
def test_a_damaged_manifest_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "key").mkdir()
    (tmp_path / "key" / "manifest.json").write_text(content)
    with pytest.raises(UserError, match=r"key/manifest\.json: not a manifest of sampled images"):
        stored_images(tmp_path)


def test_a_huge_number_of_images_is_not_enumerated(tmp_path: Path) -> None:
    (tmp_path / "key").mkdir()
    manifest = {"made": {}, "prompts": {"name": "a", "images_each": 10**12, "prompts": [{"id": "a", "text": "x"}]}}
    (tmp_path / "key" / "manifest.json").write_text(json.dumps(manifest))
    assert stored_images(tmp_path) == []
