"""Tests that encoders with the same files as a data set's encoders are recognized without loading them."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from pocketdit.config.component import Component
from pocketdit.encoders.contract import FrozenModule
from pocketdit.encoders.dct import DCTAutoencoder
from pocketdit.encoders.identity import identify, is_same_unloaded, require_same
from pocketdit.encoders.inputs import Deferred, Encoders
from pocketdit.encoders.pretrained_text import Gemma3TextEncoder
from pocketdit.encoders.vae import DiffusersAutoencoder
from pocketdit.errors import ConfigError
from pocketdit.running.assemble import build_autoencoder, build_text_encoders
from tests.encoders.test_pretrained_text import save_gemma
from tests.encoders.test_vae import WEIGHTS, write_checkpoints

KEY = "text_encoders.0"


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with "flux", "moved" (a copy of "flux"), "trained" (with different weights) and "gemma"."""
    folder = tmp_path_factory.mktemp("checkpoints")
    write_checkpoints(folder)
    save_gemma(folder / "gemma")
    for name in ("moved", "trained"):
        shutil.copytree(folder / "flux", folder / name)
    path = folder / "trained" / "vae" / WEIGHTS
    tensors = load_file(path)
    tensors[min(tensors)].view(-1)[0] += 1e-3
    save_file(tensors, path, metadata={"format": "pt"})
    return folder


@pytest.fixture
def stored(checkpoints: Path) -> dict[str, Any]:
    """Return the description of the "flux" autoencoder that a data set stores."""
    autoencoder = DiffusersAutoencoder(str(checkpoints / "flux"), "flux")
    identity = {**identify(autoencoder), "channels": autoencoder.channels, "factor": autoencoder.factor}
    recorded: dict[str, Any] = json.loads(json.dumps(identity))
    return recorded


@pytest.fixture
def unloadable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the test fail if an encoder is loaded."""

    def fail(self: FrozenModule) -> None:
        raise AssertionError(f"{type(self).__name__} has been loaded")

    monkeypatch.setattr(FrozenModule, "freeze", fail)


def published(folder: Path, **options: Any) -> Component:
    arguments = {"repository": str(folder), "kind": "flux", **options}
    return Component("pocketdit.encoders.vae.DiffusersAutoencoder", arguments)


def test_equal_files_show_that_encoders_are_the_same(
    checkpoints: Path, stored: dict[str, Any], unloadable: None
) -> None:
    for name in ("flux", "moved"):
        autoencoder, facts = build_autoencoder(published(checkpoints / name), stored)
        assert isinstance(autoencoder, Deferred)
        assert (facts["channels"], facts["factor"]) == (16, 8)


def test_other_files_are_loaded_and_their_weights_refused(checkpoints: Path, stored: dict[str, Any]) -> None:
    assert not is_same_unloaded(stored, DiffusersAutoencoder, published(checkpoints / "trained").init_args)
    with pytest.raises(
        ConfigError, match=r"autoencoder: .*, not with weights \w{16}, repository .*/trained, revision None;"
    ):
        build_autoencoder(published(checkpoints / "trained"), stored)


def test_equal_weights_in_other_files_are_accepted(checkpoints: Path, stored: dict[str, Any], tmp_path: Path) -> None:
    shutil.copytree(checkpoints / "flux", tmp_path / "resaved")
    path = tmp_path / "resaved" / "vae" / WEIGHTS
    save_file(load_file(path), path, metadata={"format": "pt", "resaved": "yes"})
    assert not is_same_unloaded(stored, DiffusersAutoencoder, published(tmp_path / "resaved").init_args)
    autoencoder, _ = build_autoencoder(published(tmp_path / "resaved"), stored)
    assert not isinstance(autoencoder, Deferred)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "qwen_image"}, r"autoencoder.init_args.kind: .* encoded with flux, not with qwen_image"),
        ({"dtype": "bfloat16"}, r"autoencoder.init_args.dtype: .* encoded with float32, not with bfloat16"),
    ],
)
def test_other_arguments_are_refused_without_loading(
    checkpoints: Path, stored: dict[str, Any], unloadable: None, options: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        build_autoencoder(published(checkpoints / "flux", **options), stored)


def test_source_that_is_not_on_this_machine_is_compared_by_name(stored: dict[str, Any], unloadable: None) -> None:
    recorded = {**stored, "init_args": {**stored["init_args"], "repository": "nobody/nothing", "revision": "abc"}}
    component = published(Path("nobody/nothing"), revision="abc")
    assert is_same_unloaded(recorded, DiffusersAutoencoder, component.init_args)
    assert not is_same_unloaded(recorded, DiffusersAutoencoder, {**component.init_args, "revision": "def"})


def test_weights_that_change_after_the_start_are_refused_when_they_are_loaded(
    checkpoints: Path, stored: dict[str, Any], tmp_path: Path
) -> None:
    shutil.copytree(checkpoints / "flux", tmp_path / "changing")
    autoencoder, _ = build_autoencoder(published(tmp_path / "changing"), stored)
    encoders = Encoders(autoencoder, ()).to(torch.device("cpu"))
    shutil.copy(checkpoints / "trained" / "vae" / WEIGHTS, tmp_path / "changing" / "vae" / WEIGHTS)
    with pytest.raises(ConfigError, match=r"autoencoder: .*, not with weights"):
        _ = encoders.autoencoder


def test_text_encoders_are_named_by_their_key(checkpoints: Path, unloadable: None) -> None:
    path = "pocketdit.encoders.pretrained_text.Gemma3TextEncoder"
    arguments = {"repository": str(checkpoints / "gemma"), "max_tokens": 12}
    recorded = {"class": path, "init_args": {**arguments, "max_tokens": 8, "revision": None, "dtype": "bfloat16"}}
    with pytest.raises(ConfigError, match=rf"{KEY}.init_args.max_tokens: the text embeddings .* with 8, not with 12"):
        build_text_encoders([Component(path, arguments)], [recorded])
    with pytest.raises(ConfigError, match=r"text_encoders: the run has 2, .* of 1 \(Gemma3TextEncoder\)"):
        build_text_encoders([Component(path, arguments)] * 2, [recorded])


def test_text_encoder_records_its_weights_and_its_files(checkpoints: Path) -> None:
    encoder = Gemma3TextEncoder(str(checkpoints / "gemma"), 12)
    recorded = json.loads(json.dumps(identify(encoder)))
    assert recorded["files"]
    require_same(recorded, Gemma3TextEncoder(str(checkpoints / "gemma"), 12), KEY)
    with pytest.raises(ConfigError, match=rf"{KEY}: the text .*, not with pocketdit.encoders.dct.DCTAutoencoder;"):
        require_same(recorded, DCTAutoencoder(), KEY)
