"""Tests that an autoencoder's identity covers everything that determines its latents, and nothing else."""

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from pocketdit.encoders.contract import Autoencoder
from pocketdit.encoders.dct import DCTAutoencoder
from pocketdit.encoders.identity import identify, require_same
from pocketdit.encoders.vae import AutoencoderKind, DiffusersAutoencoder
from pocketdit.errors import ConfigError
from tests.encoders.test_vae import WEIGHTS, write_checkpoints


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with "flux", "qwen_image", "moved" (a copy of "flux") and "trained" (with different weights)."""
    from safetensors.torch import load_file, save_file

    folder = tmp_path_factory.mktemp("autoencoders")
    write_checkpoints(folder)
    for name in ("moved", "trained"):
        shutil.copytree(folder / "flux", folder / name)
    path = folder / "trained" / "vae" / WEIGHTS
    tensors = load_file(path)
    tensors[min(tensors)].view(-1)[0] += 1e-3
    save_file(tensors, path, metadata={"format": "pt"})
    return folder


def _published(folder: Path, kind: AutoencoderKind = "flux", **options: Any) -> Autoencoder:
    return DiffusersAutoencoder(str(folder), kind, **options)


def _stored(autoencoder: Autoencoder) -> dict[str, Any]:
    stored: dict[str, Any] = json.loads(json.dumps(identify(autoencoder)))
    return stored


def test_identity_contains_the_class_all_arguments_and_the_weights() -> None:
    identity = identify(DCTAutoencoder(1.5))
    assert identity["class"] == "pocketdit.encoders.dct.DCTAutoencoder"
    assert identity["init_args"] == {"scale": 1.5, "center": 0.0}
    assert identify(copy.deepcopy(DCTAutoencoder(1.5))) == identity
    changed = DCTAutoencoder(1.5)
    changed.kernel[0, 0, 0, 0] += 1e-6
    assert identify(changed)["weights"] != identity["weights"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"scale": 1.0},
            "autoencoder.init_args.scale: the latents of the data set were encoded with 2.1, not with 1.0",
        ),
        ({"center": 0.5}, "autoencoder.init_args.center: .* encoded with 0.0, not with 0.5"),
    ],
)
def test_other_arguments_are_rejected_by_name(options: dict[str, float], message: str) -> None:
    require_same(_stored(DCTAutoencoder()), DCTAutoencoder(scale=2.1))
    with pytest.raises(ConfigError, match=message):
        require_same(_stored(DCTAutoencoder()), DCTAutoencoder(**options))


def test_other_published_autoencoders_are_rejected_by_name(checkpoints: Path) -> None:
    stored = _stored(_published(checkpoints / "flux"))
    with pytest.raises(ConfigError, match=r"autoencoder.init_args.kind: .* encoded with flux, not with qwen_image"):
        require_same(stored, _published(checkpoints / "qwen_image", "qwen_image"))
    with pytest.raises(ConfigError, match=r"autoencoder.init_args.dtype: .* encoded with float32, not with bfloat16"):
        require_same(stored, _published(checkpoints / "flux", dtype="bfloat16"))
    with pytest.raises(
        ConfigError, match=r"autoencoder: .*, not with weights \w{16}, repository .*/trained, revision None;"
    ):
        require_same(stored, _published(checkpoints / "trained"))
    with pytest.raises(ConfigError, match=r"autoencoder: .*, not with pocketdit.encoders.dct.DCTAutoencoder;"):
        require_same(stored, DCTAutoencoder())


def test_equal_weights_in_another_place_are_accepted(checkpoints: Path) -> None:
    require_same(_stored(_published(checkpoints / "flux")), _published(checkpoints / "moved", revision="main"))


def test_data_set_that_records_only_the_class_is_accepted() -> None:
    require_same({"class": "pocketdit.encoders.dct.DCTAutoencoder", "factor": 8}, DCTAutoencoder(scale=1.0))


def test_autoencoder_that_is_not_a_module_is_identified_by_its_class() -> None:
    class Plain:
        channels, factor = 3, 8

        def encode(self, images: torch.Tensor) -> torch.Tensor:
            return images

        def decode(self, latents: torch.Tensor) -> torch.Tensor:
            return latents

    assert identify(Plain())["weights"] == ""
    require_same(_stored(Plain()), Plain())
