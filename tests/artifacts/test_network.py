"""Tests that weights that do not match a run's network are rejected with a one-line error that names the tensor."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pocketdit.artifacts.network import load_network
from pocketdit.artifacts.run_folder import RunFolder, create
from pocketdit.backbones.dit import ElasticDiT
from pocketdit.commands.main import main
from pocketdit.config.experiment import Experiment
from pocketdit.config.load import load
from pocketdit.errors import RunError
from tests.conftest import PRETRAIN


@pytest.fixture
def run(tiny: list[str], tmp_path: Path) -> RunFolder:
    loaded = load(PRETRAIN, tiny, Experiment)
    folder = create(tmp_path / "runs", "elastic_pretrain", "t", loaded.to_yaml())
    save_file(ElasticDiT(loaded.config.dit).state_dict(), folder.weights)
    return folder


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.int64])
def test_weights_of_another_dtype_are_refused(
    run: RunFolder, dtype: torch.dtype, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = load_network(run).state_dict()
    name = next(iter(weights))
    save_file({**weights, name: weights[name].to(dtype)}, run.weights)
    assert main(["sample", str(run.path), "a red circle", "--steps", "1", "--out", str(tmp_path / "x.png")]) == 1
    error = capsys.readouterr().err
    assert f"{name} is {dtype}, but a run's weights must be torch.float32" in error
    assert len(error.splitlines()) == 1


def test_unknown_weights_are_named(run: RunFolder) -> None:
    save_file({**load_network(run).state_dict(), "extra": torch.zeros(2)}, run.weights)
    with pytest.raises(RunError, match=r"does not match the network in config.yaml: .*extra"):
        load_network(run)
