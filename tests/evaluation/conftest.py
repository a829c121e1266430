"""Drawn pictures, the published files where they are at hand, and a small folder of the same form."""

import os
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

SMALL = {
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


@pytest.fixture
def small(tmp_path: Path) -> Path:
    folder = tmp_path / "prompts"
    folder.mkdir()
    for name, text in SMALL.items():
        (folder / name).write_bytes(text.encode())
    return folder


@pytest.fixture(scope="session")
def published() -> Path:
    """The folder that holds golden/ and t2i_compbench/."""
    if "POCKETDIT_EVALUATION_DATA" not in os.environ:
        pytest.skip("POCKETDIT_EVALUATION_DATA is not set")
    return Path(os.environ["POCKETDIT_EVALUATION_DATA"])


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Writes pictures to files, as a run leaves them."""

    def written(prompts: PromptSet, pictures: dict[str, list[ImageArray]]) -> ImageSet:
        images: dict[str, tuple[Path, ...]] = {}
        for name, drawn in pictures.items():
            images[name] = tuple(tmp_path / f"{name}-{i}.png" for i in range(len(drawn)))
            for path, picture in zip(images[name], drawn, strict=True):
                Image.fromarray(picture).save(path)
        return ImageSet(prompts, images, {"made": "by hand"})

    return written


@pytest.fixture(scope="session")
def drawn() -> Callable[..., ImageArray]:
    """``drawn(("circle", "red", x, y), ...)``: a picture with these on white."""

    def of(*items: tuple[str, str, float, float], width: int = 128, height: int = 128) -> ImageArray:
        objects = tuple(Object(shape, color, "large", x, y, 16) for shape, color, x, y in items)
        return np.asarray(render_scene(Scene(width, height, "white", objects)))

    return of


class TinyClip:
    """transformers' CLIP with random weights; texts by their letters."""

    backend = Backend("tiny-clip", "random")

    def __init__(self) -> None:
        from transformers import CLIPConfig, CLIPModel

        torch.manual_seed(0)
        sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
        text = {**sizes, "vocab_size": 128, "max_position_embeddings": 64, "eos_token_id": 127}
        vision = {**sizes, "image_size": 32, "patch_size": 16}
        self.model: Any = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).eval()

    @torch.no_grad()
    def encode_images(self, pictures: Sequence[ImageArray]) -> NDArray[np.float32]:
        small = [np.asarray(Image.fromarray(picture).resize((32, 32)), np.float32) / 255 for picture in pictures]
        hidden = self.model.vision_model(torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2)).pooler_output
        return self._normed(self.model.visual_projection(hidden))

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rows = [self.model.text_model(torch.tensor([[*text.encode()[:60], 127]])).pooler_output for text in texts]
        return self._normed(self.model.text_projection(torch.cat(rows)))

    def _normed(self, features: torch.Tensor) -> NDArray[np.float32]:
        return torch.nn.functional.normalize(features, dim=-1).numpy()


@pytest.fixture(scope="session")
def clip() -> TinyClip:
    return TinyClip()
