"""Tests for captions in COCO's format as prompts."""

import json
from pathlib import Path
from typing import Any

import pytest

from evaluation.prompts.coco import CocoCaptions
from pocketdit.errors import ConfigError

ANNOTATIONS = [
    {"image_id": 42, "id": 9, "caption": "the second caption"},
    {"image_id": 42, "id": 3, "caption": " A man on a horse.\n"},
    {"image_id": 7, "id": 5, "caption": "A blue bus"},
    {"image_id": 391895, "id": 4, "caption": ""},
    {"image_id": 391895, "id": 6, "caption": "Two cats"},
]


def write(folder: Path, content: Any) -> Path:
    path = folder / "captions_val2014.json"
    path.write_text(json.dumps(content))
    return path


def test_first_caption_of_each_image_is_its_prompt(tmp_path: Path) -> None:
    prompts = CocoCaptions(write(tmp_path, {"images": [], "annotations": ANNOTATIONS}), images_each=2).load()
    assert (prompts.name, prompts.images_each) == ("coco-captions_val2014", 2)
    assert [(prompt.id, prompt.text) for prompt in prompts.prompts] == [
        ("000000000007", "A blue bus"),
        ("000000000042", "A man on a horse."),
        ("000000391895", "Two cats"),
    ]


def test_images_are_drawn_without_replacement(tmp_path: Path) -> None:
    path = write(tmp_path, {"annotations": [{"image_id": i, "id": i, "caption": f"caption {i}"} for i in range(200)]})

    def drawn(count: int, seed: int) -> list[int]:
        return [int(prompt.id) for prompt in CocoCaptions(path, count, seed).load().prompts]

    first = drawn(20, 0)
    assert len(set(first)) == 20
    assert first == sorted(first) == drawn(20, 0) != drawn(20, 1)
    assert drawn(200, 0) == list(range(200))
    assert max(first) > 100  # the draw is not limited to the first images


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "does not contain captions in COCO's format"),
        ({"annotations": [{"image_id": 1, "caption": "x"}]}, "does not contain captions in COCO's format"),
        ({"annotations": [{"image_id": "a", "id": 1, "caption": "x"}]}, "does not contain captions in COCO's format"),
        ({"annotations": []}, "contains no captions"),
        ({"annotations": ANNOTATIONS}, "contains captions of 3 images, but count is 4"),
    ],
)
def test_invalid_files_are_errors(content: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"captions_val2014.json: {message}"):
        CocoCaptions(write(tmp_path, content), count=4).load()


def test_missing_file_and_invalid_count_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.json: cannot be read .*cocodataset\.org"):
        CocoCaptions(tmp_path / "none.json").load()
    with pytest.raises(ConfigError, match="count must be at least 1, not 0"):
        CocoCaptions(tmp_path / "none.json", count=0)
