"""A folder of existing images as the subject of an evaluation."""

from pathlib import Path

import pytest
from PIL import Image

from evaluation.contract import Prompt, PromptSet, open_image
from evaluation.subjects.image_folder import ImageFolder
from pocketdit.errors import ConfigError, UserError

PROMPTS = PromptSet("three", tuple(Prompt(f"{i:05d}", f"text {i}") for i in range(3)), images_each=2)


@pytest.mark.parametrize("layout", ["{id}/0.png", "{id}/samples/0000.png", "{id}.png"])
def test_images_are_matched_by_id(layout: str, tmp_path: Path) -> None:
    for value, name in ((2, "00002"), (0, "00000"), (1, "00001")):
        path = tmp_path / layout.format(id=name)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (value, 0, 0)).save(path)
    images = ImageFolder(tmp_path).images(PROMPTS, tmp_path / "unused")
    assert [int(open_image(images.images[p.id][0])[0, 0, 0]) for p in PROMPTS.prompts] == [0, 1, 2]
    (tmp_path / layout.format(id="00001")).unlink()
    with pytest.raises(UserError, match=r"no images for 1 of 3 prompts of three \(00001\)"):
        ImageFolder(tmp_path).images(PROMPTS, tmp_path / "unused")


def test_prompts_need_the_same_number_of_images(tmp_path: Path) -> None:
    for name, count in (("00000", 2), ("00001", 1), ("00002", 2)):
        (tmp_path / name).mkdir()
        for number in range(count):
            Image.new("RGB", (4, 4)).save(tmp_path / name / f"{number}.png")
    with pytest.raises(UserError, match="between 1 and 2 images per prompt, the fewest for 00001"):
        ImageFolder(tmp_path).images(PROMPTS, tmp_path)


def test_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder of images"):
        ImageFolder(tmp_path / "none")
