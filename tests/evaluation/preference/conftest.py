"""A small preference study of two folders of images."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from evaluation.preference.create import create
from evaluation.preference.open import open_study
from evaluation.preference.settings import Preference
from evaluation.preference.storage.store import Store
from pocketdit.config.load import Loaded, load

PROMPTS = 12
SCRIPT = "<script>document.title = 'hacked'</script><img src=x onerror=\"document.title = 'hacked'\">"
COLORS = {"a": (255, 0, 0), "b": (0, 0, 255)}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The YAML file of a study of the folders ``a`` (red images) and ``b`` (blue images)."""
    (tmp_path / "prompts.txt").write_text("\n".join([SCRIPT, *(f"prompt {i}" for i in range(1, PROMPTS))]))
    folders = {}
    for name, color in COLORS.items():
        (tmp_path / name).mkdir()
        for i in range(PROMPTS):
            image = Image.new("RGB", (32, 24), (color[0], 10 * i, color[2]))
            image.save(tmp_path / name / f"{i:05d}.png")
        path = "evaluation.subjects.image_folder.ImageFolder"
        folders[name] = {"class_path": path, "init_args": {"path": str(tmp_path / name)}}
    settings = {
        "preference": "test",
        "subjects": folders,
        "prompts": {
            "class_path": "evaluation.prompts.file.PromptFile",
            "init_args": {"path": str(tmp_path / "prompts.txt")},
        },
        "pairs_per_rater": 8,
        "checks": {"noise": 1, "repeat": 1},
        "out": str(tmp_path / "out"),
        "tracking": {"uri": f"sqlite:///{tmp_path / 'mlflow.db'}"},
    }
    (tmp_path / "test.yaml").write_text(json.dumps(settings))
    return tmp_path / "test.yaml"


Created = Callable[..., tuple[Loaded[Preference], Store]]


@pytest.fixture
def created(file: Path) -> Created:
    """Return a function that creates the study with overrides."""

    def create_study(*overrides: str) -> tuple[Loaded[Preference], Store]:
        loaded = load(file, overrides, Preference)
        create(loaded)
        return loaded, open_study(loaded)

    return create_study
