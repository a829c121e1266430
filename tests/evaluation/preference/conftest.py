"""Fixtures for a small preference study of two folders of images."""

import json
from collections.abc import Callable
from functools import partial
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


def write_study(folder: Path) -> Path:
    """Write the folders ``a`` (red images) and ``b`` (blue images) and the YAML file of a study that compares them."""
    (folder / "prompts.txt").write_text("\n".join([SCRIPT, *(f"prompt {i}" for i in range(1, PROMPTS))]))
    subjects = {}
    for name, color in COLORS.items():
        (folder / name).mkdir()
        for i in range(PROMPTS):
            image = Image.new("RGB", (32, 24), (color[0], 10 * i, color[2]))
            image.save(folder / name / f"{i:05d}.png")
        path = "evaluation.subjects.image_folder.ImageFolder"
        subjects[name] = {"class_path": path, "init_args": {"path": str(folder / name)}}
    settings = {
        "preference": "test",
        "subjects": subjects,
        "prompts": {
            "class_path": "evaluation.prompts.file.PromptFile",
            "init_args": {"path": str(folder / "prompts.txt")},
        },
        "pairs_per_rater": 8,
        "checks": {"noise": 1, "repeat": 1},
        "out": str(folder / "out"),
        "tracking": {"uri": f"sqlite:///{folder / 'mlflow.db'}"},
    }
    (folder / "test.yaml").write_text(json.dumps(settings))
    return folder / "test.yaml"


def create_study(file: Path, *overrides: str) -> tuple[Loaded[Preference], Store]:
    """Create a study, and open it."""
    loaded = load(file, overrides, Preference)
    create(loaded)
    return loaded, open_study(loaded)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The YAML file of a study in the test's own folder."""
    return write_study(tmp_path)


Created = Callable[..., tuple[Loaded[Preference], Store]]


@pytest.fixture
def created(file: Path) -> Created:
    """Return a function that creates the study with overrides."""
    return partial(create_study, file)
