"""Tests that training on an encoded data set is equivalent to training on its images, without loading the encoders."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from pocketdit.artifacts.run_folder import find
from pocketdit.commands.main import main
from pocketdit.encoders.contract import FrozenModule
from pocketdit.stages.elastic_pretrain import ElasticPretrain
from pocketdit.tracking.journal import read_metrics
from tests.conftest import PRETRAIN, NewDatabase, tiny_overrides

Images = Callable[..., Path]
Write = Callable[..., Path]


def encode(experiment: Path, source: Path, out: Path, *options: str) -> None:
    assert main(["data", "encode", str(experiment), str(source), str(out), *options]) == 0


@pytest.fixture
def tracking(tmp_path: Path, new_database: NewDatabase) -> str:
    """Return an override that selects one tracking database for all runs of a test."""
    return f"tracking.uri={new_database(tmp_path)}"


def train(experiment: Path, data: Path, folder: Path, *options: str) -> Path:
    """Train for a few steps, and return the folder of the run."""
    overrides = [*tiny_overrides(data, folder), "experiment=trial", "training.validate_every=3", *options]
    assert main(["run", str(experiment), *overrides]) == 0
    return find(folder / "runs", "trial").path


def losses_of(run: Path) -> dict[str, list[float]]:
    """Return the training and validation losses of a run, in the order of their steps."""
    metrics = read_metrics(run / "metrics.jsonl")
    return {name: [value for _, value in sorted(points)] for name, points in metrics.items() if "/loss" in name}


def test_exactly_stored_data_train_the_same_weights(scenes: Path, tmp_path: Path, tracking: str) -> None:
    """With float32, and with encoders whose results do not depend on the batch, all weights are bit-identical."""
    encode(PRETRAIN, scenes, tmp_path / "encoded", "--dtype", "float32")
    options = ("stage.init_args.drop_text=0.5", tracking)
    expected, weights = (
        load_file(train(PRETRAIN, data, tmp_path / data.name, *options) / "weights.safetensors")
        for data in (scenes, tmp_path / "encoded")
    )
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list to which the class name of each encoder is added when the encoder is loaded."""
    names: list[str] = []
    freeze = FrozenModule.freeze

    def record(self: FrozenModule) -> None:
        names.append(type(self).__name__)
        freeze(self)

    monkeypatch.setattr(FrozenModule, "freeze", record)
    return names


def test_encoders_are_loaded_only_for_the_preview(
    images: Images,
    experiment: Write,
    tmp_path: Path,
    tracking: str,
    loaded: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source, file = images(), experiment()
    encode(file, source, tmp_path / "encoded")
    loaded.clear()
    step = ElasticPretrain.training_step

    def training_step(self: ElasticPretrain, *arguments: Any) -> Any:
        loaded.append("step")
        return step(self, *arguments)

    monkeypatch.setattr(ElasticPretrain, "training_step", training_step)
    options = ("sampling.size=[64,64]", "data.init_args.base_size=64", tracking)
    run = train(file, tmp_path / "encoded", tmp_path, *options)
    assert loaded == [*["step"] * 6, "DiffusersAutoencoder", "ClipTextEncoder", "Gemma3TextEncoder"]
    assert (run / "samples" / "step-000006.png").is_file()


def test_losses_differ_by_the_rounding_to_bf16(
    images: Images, experiment: Write, tmp_path: Path, tracking: str
) -> None:
    source, file = images(), experiment()
    encode(file, source, tmp_path / "encoded")
    options = ("sampling.size=[64,64]", "data.init_args.base_size=64", "stage.init_args.drop_text=0.5", tracking)
    expected = losses_of(train(file, source, tmp_path / "a", *options))
    losses = losses_of(train(file, tmp_path / "encoded", tmp_path / "b", *options))
    assert losses.keys() == expected.keys()
    for name, values in expected.items():
        assert losses[name] == pytest.approx(values, rel=2**-7), name
        assert losses[name] != values, name
