"""Fixtures for encoded data sets: tiny versions of published encoders, and data sets with images of several shapes."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from datamodules.shards.schema import Sample
from datamodules.shards.writer import DatasetWriter
from tests.conftest import PRETRAIN
from tests.encoders.test_pretrained_text import save_clip, save_gemma
from tests.encoders.test_vae import write_checkpoints

SIZES = ((64, 64), (96, 48), (48, 96), (70, 60))
WORDS = ("a red circle", "a blue square", "red", "blue blue blue blue")


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write tiny checkpoints of the published autoencoders, CLIP and Gemma 3, and return their folder."""
    folder = tmp_path_factory.mktemp("checkpoints")
    write_checkpoints(folder)
    save_clip(folder / "clip")
    save_gemma(folder / "gemma")
    return folder


@pytest.fixture
def images(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a data set with images of several shapes and one to three captions per image."""

    def write(train: int = 20, validation: int = 4, per_shard: int = 5, name: str = "images") -> Path:
        out = tmp_path / name
        with DatasetWriter(out, kind="image", name=name, source="test", samples_per_shard=per_shard) as writer:
            for split, count in (("train", train), ("validation", validation)):
                for number in range(count):
                    writer.add(split, _sample(number, split))
        return out

    return write


def _sample(number: int, split: str) -> Sample:
    size = SIZES[number % len(SIZES)]
    pixels = np.random.default_rng([number, split == "train"]).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize(size).save(file, format="png")
    captions = tuple(f"{WORDS[(number + i) % len(WORDS)]} {'a ' * i}".strip() for i in range(1 + number % 3))
    return Sample(f"{split}-{number}", captions, *size, file.getvalue(), "png", {"number": number}, seed=number)


@pytest.fixture
def experiment(tmp_path: Path, checkpoints: Path) -> Callable[..., Path]:
    """Return a function that writes the YAML file of an experiment with published encoders and a tiny network."""

    def write(kind: str = "qwen_image", **changes: Any) -> Path:
        values = yaml.safe_load(PRETRAIN.read_text())
        values["autoencoder"] = {
            "class_path": "pocketdit.encoders.vae.DiffusersAutoencoder",
            "init_args": {"repository": str(checkpoints / kind), "kind": kind},
        }
        module = "pocketdit.encoders.pretrained_text"
        values["text_encoders"] = [
            {
                "class_path": f"{module}.ClipTextEncoder",
                "init_args": {"repository": str(checkpoints / "clip"), "max_tokens": 8},
            },
            {
                "class_path": f"{module}.Gemma3TextEncoder",
                "init_args": {"repository": str(checkpoints / "gemma"), "max_tokens": 12, "dtype": "float32"},
            },
        ]
        values["backbone"] |= {"text_inputs": [16, 16]}
        values["backbone"].pop("latent_std", None)
        values["data"]["init_args"] |= {"base_size": 64}
        values["sampling"] |= {"size": [64, 64]}
        path = tmp_path / f"{kind}.yaml"
        path.write_text(yaml.safe_dump({**values, **changes}))
        return path

    return write
