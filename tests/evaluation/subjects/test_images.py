"""Pictures are made once, kept by what decides them, and shared by processes."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.contract import ImageArray, Prompt, PromptSet, open_image
from evaluation.subjects.image_folder import ImageFolder
from evaluation.subjects.images import Share, draw_images, image_folder, share_of_environment, wait_for
from pocketdit.errors import RunError, UserError

PROMPTS = PromptSet("three", tuple(Prompt(f"{i:05d}", f"text {i}", {"tag": "x"}) for i in range(3)), images_each=2)


class Painter:
    """Pictures of one colour that tells prompt and number; fails after ``most``."""

    def __init__(self, seed: int = 0, most: int = 100) -> None:
        self.seed, self.most, self.drawn = seed, most, 0

    def provenance(self) -> dict[str, Any]:
        return {"subject": "painter", "seed": self.seed}

    def draw(self, prompts: Sequence[Prompt], number: int) -> Iterator[tuple[Prompt, ImageArray]]:
        for prompt in prompts:
            if self.drawn == self.most:
                raise KeyboardInterrupt
            self.drawn += 1
            yield prompt, np.full((8, 8, 3), 10 * int(prompt.id) + number, np.uint8)


def test_a_second_call_draws_nothing_and_an_interrupted_one_goes_on(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        draw_images(Painter(most=4), PROMPTS, tmp_path)
    rest = Painter()
    images = draw_images(rest, PROMPTS, tmp_path)
    assert rest.drawn == 2
    for prompt in PROMPTS.prompts:
        values = [int(open_image(path)[0, 0, 0]) for path in images.images[prompt.id]]
        assert values == [10 * int(prompt.id), 10 * int(prompt.id) + 1]
    again = Painter()
    assert draw_images(again, PROMPTS, tmp_path) == images and again.drawn == 0
    manifest = json.loads((image_folder(tmp_path, again.provenance(), PROMPTS) / "manifest.json").read_text())
    assert manifest["made"] == again.provenance() and len(manifest["prompts"]["prompts"]) == 3


def test_whatever_decides_a_picture_gets_a_folder_of_its_own(tmp_path: Path) -> None:
    other = PromptSet("three", (*PROMPTS.prompts[:2], Prompt("00002", "other text")), images_each=2)
    folders = {
        image_folder(tmp_path, Painter(seed).provenance(), prompts) for seed in (0, 1) for prompts in (PROMPTS, other)
    }
    assert len(folders) == 4


def test_ranks_share_the_prompts_and_see_all_pictures(tmp_path: Path) -> None:
    painters = [Painter(), Painter()]
    (tmp_path / "x").mkdir()
    with pytest.raises(RunError, match="pictures of other processes"):
        wait_for([tmp_path / "x" / "never.png"], patience=0.0)
    folder = image_folder(tmp_path, painters[1].provenance(), PROMPTS)
    for prompt in PROMPTS.prompts[::2]:  # what rank 0 makes
        for number in range(2):
            path = folder / prompt.id / f"{number:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"of rank 0")  # whose pictures this rank does not look into
    images = draw_images(painters[1], PROMPTS, tmp_path, Share(1, 2))
    assert painters[1].drawn == 2 and set(images.images) == {"00000", "00001", "00002"}
    assert share_of_environment({"RANK": "3", "WORLD_SIZE": "8"}) == Share(3, 8)
    assert share_of_environment({"SLURM_PROCID": "1", "SLURM_NTASKS": "2"}) == Share(1, 2)
    assert share_of_environment({}) == Share(0, 1)


@pytest.mark.parametrize(
    ("ids", "message"),
    [((), "no prompts"), (("a", "a"), "stands there twice"), (("../a",), "no plain file name"), ((".a",), "no plain")],
)
def test_ids_that_cannot_name_files_are_refused(ids: tuple[str, ...], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        draw_images(Painter(), PromptSet("bad", tuple(Prompt(name, "x") for name in ids)), tmp_path)


@pytest.mark.parametrize("layout", ["{id}/0.png", "{id}/samples/0000.png", "{id}.png"])
def test_a_folder_of_pictures_is_joined_by_id(layout: str, tmp_path: Path) -> None:
    from PIL import Image

    for value, name in ((2, "00002"), (0, "00000"), (1, "00001")):
        path = tmp_path / layout.format(id=name)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (value, 0, 0)).save(path)
    images = ImageFolder(tmp_path).images(PROMPTS, tmp_path / "unused")
    assert [int(open_image(images.images[p.id][0])[0, 0, 0]) for p in PROMPTS.prompts] == [0, 1, 2]
    (tmp_path / layout.format(id="00001")).unlink()
    with pytest.raises(UserError, match=r"no picture for 1 of 3 prompts of three \(00001\)"):
        ImageFolder(tmp_path).images(PROMPTS, tmp_path / "unused")


def test_a_truncated_picture_is_named_and_made_again(tmp_path: Path) -> None:
    images = draw_images(Painter(), PROMPTS, tmp_path)
    path = images.images["00001"][0]
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(UserError, match=r"0000\.png: does not decode"):
        open_image(path)
    again = Painter()
    draw_images(again, PROMPTS, tmp_path)
    assert again.drawn == 1 and open_image(path).shape == (8, 8, 3)
    path.unlink()
    with pytest.raises(UserError, match="no such picture"):
        open_image(path)
