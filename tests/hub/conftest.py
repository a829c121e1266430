"""Fixtures that provide a run with random weights and a stand-in for the Hugging Face Hub on this machine."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from pocketdit.artifacts.run_folder import RunFolder, create
from pocketdit.artifacts.weights import save_weights
from pocketdit.backbones.dit import ElasticDiT
from pocketdit.config.experiment import Experiment
from pocketdit.config.load import load
from tests.conftest import PRETRAIN
from tests.hub.stand_in import StandInHub

RUN = "tiny/first"
TINY = [
    "experiment=tiny",
    "backbone.width=64",
    "backbone.widths=[0.5, 1.0]",
    "backbone.text_width=32",
    "backbone.levels.1.depth=1",
    "backbone.levels.1.long_skips=false",
    "training.precision=32-true",
    "training.max_steps=6",
    "sampling.steps=4",
    "sampling.size=[64, 64]",
    "sampling.prompts=[a red circle, a blue star]",
]


def randomize(network: nn.Module, seed: int = 0) -> None:
    """Replace all weights with random numbers, because a new network predicts zero velocity."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in network.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.1)


def write_run(runs: Path, overrides: list[str], name: str = RUN) -> RunFolder:
    """Write a finished run with random weights."""
    loaded = load(PRETRAIN, [*TINY, f"runs={runs}", *overrides], Experiment)
    experiment, _, run = name.partition("/")
    folder = create(runs, experiment, run, loaded.to_yaml())
    network = ElasticDiT(loaded.config.dit)
    randomize(network)
    save_weights(folder.weights, network.state_dict())
    folder.finished.write_text("6\n")
    return folder


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run with the built-in encoders, a notice file, and a preview image."""
    from PIL import Image

    folder = write_run(tmp_path_factory.mktemp("hub") / "runs", [])
    (folder.path / "NOTICE.txt").write_text("Pictures by Example Authors. License: CC BY-SA 4.0\n")
    folder.samples.mkdir()
    Image.new("RGB", (32, 16), "red").save(folder.samples / "step-000006.png")
    return folder


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInHub]:
    """A stand-in for an empty Hub, to which huggingface_hub connects as user alice and retries without a delay."""
    import time

    from huggingface_hub import constants

    server = StandInHub()
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    monkeypatch.setenv("HF_TOKEN", "hf_of_alice")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # the stand-in supports LFS, but not Xet
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    yield server
    server.stop()
