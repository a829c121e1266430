"""Fixtures that provide a tiny run, rendered images, small T2I-CompBench files, a tiny CLIP, and published files."""

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from datamodules.scenes.render import render_scene
from datamodules.scenes.scene import Object, Scene
from evaluation.contract import Backend, ImageArray, ImageSet, PromptSet
from pocketdit.commands.main import main
from tests.conftest import PRETRAIN, NewDatabase, tiny_overrides

COMPBENCH_FILES = {
    "color_val.txt": "a green bench and a blue bowl\r\na blue bench and a green bowl",
    "non_spatial_val.txt": "A person is looking at a rainbow.\r\n\r\n",
    "spatial_val.txt": "a circle on the left of a square\na star near a cross\n",
    "numeracy_val.txt": "two mice\na book, three fish, and two men were on the picnic table\n",
    "new_objects.txt": "mouse - mice\nfish - fish\nman - men\nbook - books\ntable - tables\n",
    "complex_val.txt": "The red circle is on the left of the blue square.\n"
    "The cat slept.\nThe vase sat near the cup.\n",
    "complex_val_spatial.txt": "The red circle is on the left of the blue square.\n",
    "complex_val_action.txt": "The cat slept.\r\n",
    "complex_val_spatialaction.txt": "The vase sat near the cup.",
}

Save = Callable[[PromptSet, dict[str, list[ImageArray]]], ImageSet]


@pytest.fixture(scope="module")
def trained_runs(scenes: Path, tmp_path_factory: pytest.TempPathFactory, new_database: NewDatabase) -> Path:
    """Train ``elastic_pretrain`` for one step, and return the folder of runs. Tests only change copies of it."""
    folder = tmp_path_factory.mktemp("trained")
    new_database(folder)
    assert main(["run", str(PRETRAIN), *tiny_overrides(scenes, folder), "training.max_steps=1"]) == 0
    return folder / "runs"


@pytest.fixture
def runs(trained_runs: Path, tmp_path: Path, new_database: NewDatabase) -> Path:
    """Return a folder of runs that belongs to one test. It contains a copy of the trained run and an empty database."""
    new_database(tmp_path)
    return shutil.copytree(trained_runs, tmp_path / "runs", symlinks=True)


@pytest.fixture
def compbench_folder(tmp_path: Path) -> Path:
    """A folder with a few prompts for T2I-CompBench's categories."""
    folder = tmp_path / "prompts"
    folder.mkdir()
    for name, text in COMPBENCH_FILES.items():
        (folder / name).write_bytes(text.encode())
    return folder


@pytest.fixture(scope="session")
def published() -> Path:
    """The folder with the benchmarks' published prompts and expected values. Without it, tests are skipped."""
    if "POCKETDIT_EVALUATION_DATA" not in os.environ:
        pytest.skip("POCKETDIT_EVALUATION_DATA is not set")
    return Path(os.environ["POCKETDIT_EVALUATION_DATA"])


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Return a function that saves the images of each prompt ID and returns them as an image set."""

    def save_images(prompts: PromptSet, images: dict[str, list[ImageArray]]) -> ImageSet:
        files: dict[str, tuple[Path, ...]] = {}
        for name, arrays in images.items():
            files[name] = tuple(tmp_path / f"{name}-{i}.png" for i in range(len(arrays)))
            for path, array in zip(files[name], arrays, strict=True):
                Image.fromarray(array).save(path)
        return ImageSet(prompts, files, {"made": "by hand"})

    return save_images


@pytest.fixture(scope="session")
def render_objects() -> Callable[..., ImageArray]:
    """Return a function that renders large objects, such as ``("circle", "red", x, y)``, on a white background."""

    def render_on_white(*items: tuple[str, str, float, float], width: int = 128, height: int = 128) -> ImageArray:
        objects = tuple(Object(shape, color, "large", x, y, 16) for shape, color, x, y in items)
        return np.asarray(render_scene(Scene(width, height, "white", objects)))

    return render_on_white


class TinyClip:
    """A small CLIP from transformers with random weights, which reads the bytes of a text as tokens."""

    backend = Backend("tiny-clip", "random")

    def __init__(self) -> None:
        from transformers import CLIPConfig, CLIPModel

        torch.manual_seed(0)
        sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
        text = {**sizes, "vocab_size": 128, "max_position_embeddings": 64, "eos_token_id": 127}
        vision = {**sizes, "image_size": 32, "patch_size": 16}
        self.model: Any = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).eval()

    @torch.no_grad()
    def encode_images(self, images: Sequence[ImageArray]) -> NDArray[np.float32]:
        small = [np.asarray(Image.fromarray(image).resize((32, 32)), np.float32) / 255 for image in images]
        hidden = self.model.vision_model(torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2)).pooler_output
        return self._normalize(self.model.visual_projection(hidden))

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rows = [self.model.text_model(torch.tensor([[*text.encode()[:60], 127]])).pooler_output for text in texts]
        return self._normalize(self.model.text_projection(torch.cat(rows)))

    def _normalize(self, features: torch.Tensor) -> NDArray[np.float32]:
        return torch.nn.functional.normalize(features, dim=-1).numpy()


@pytest.fixture(scope="session")
def clip() -> TinyClip:
    return TinyClip()
