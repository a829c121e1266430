"""Tests for ``lightning publish --to``: a single width, a tiny decoder, the code file, and errors."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pocketdit.artifacts.decoder import with_decoder
from pocketdit.artifacts.network import load_network
from pocketdit.artifacts.run_folder import RunFolder, create, load_experiment
from pocketdit.artifacts.weights import save_weights
from pocketdit.commands.main import main
from pocketdit.config.experiment import DecoderExperiment
from pocketdit.config.load import load
from pocketdit.decoders.tiny import TinyDecoder
from pocketdit.encoders.hashed_text import WordEncoder
from pocketdit.files import sha256_of
from pocketdit.hub.remote_code import pipeline_code
from pocketdit.running.assemble import build_encoders
from pocketdit.sampling import initial_noise, sample
from tests.conftest import ROOT
from tests.hub.conftest import randomize, write_run
from tests.hub.stand_in import StandInHub

PROMPTS = ["a red circle", "a blue star"]


@pytest.fixture(scope="module")
def decoder_run(run: RunFolder) -> RunFolder:
    """A run of a tiny decoder with random weights, next to the run of the network."""
    runs = run.path.parents[1]
    overrides = ["decoder.channels=[16, 8, 8]", "decoder.blocks=[1, 1, 1]", f"runs={runs}"]
    loaded = load(ROOT / "experiments" / "tiny_decoder.yaml", overrides, DecoderExperiment)
    folder = create(runs, "tiny_decoder", "first", loaded.to_yaml())
    decoder = TinyDecoder(loaded.config.decoder)
    randomize(decoder)
    save_weights(folder.weights, decoder.state_dict())
    folder.finished.write_text("6\n")
    return folder


def expected(run: RunFolder, width: float, decoder: RunFolder | None = None) -> Tensor:
    experiment = load_experiment(run)
    encoders = build_encoders(experiment)
    if decoder is not None:
        encoders = with_decoder(encoders, experiment, decoder)
    return sample(load_network(run), encoders, PROMPTS, width, experiment.sampling)


def sampled(folder: Path) -> tuple[Any, Tensor]:
    from pocketdit import PocketDiTPipeline

    pipe = PocketDiTPipeline.from_pretrained(folder)
    images: Tensor = pipe(PROMPTS, latents=initial_noise(PROMPTS, 0, 16, 8, 8), output_type="pt").images
    return pipe, images * 2 - 1


def test_single_width_is_a_smaller_folder(run: RunFolder, tmp_path: Path) -> None:
    for name, options in {"all": [], "narrow": ["--width", "0.5"]}.items():
        assert main(["publish", str(run.path), "--to", str(tmp_path / name), *options]) == 0
    weights = [tmp_path / name / "transformer/diffusion_pytorch_model.safetensors" for name in ("all", "narrow")]
    assert weights[1].stat().st_size < 0.6 * weights[0].stat().st_size
    pipe, images = sampled(tmp_path / "narrow")
    assert pipe.widths == (0.5,)
    torch.testing.assert_close(images, expected(run, 0.5), atol=1e-4, rtol=0)
    assert not (tmp_path / "narrow" / "run").exists()


def test_tiny_decoder_is_published_and_pulled(
    hub: StandInHub, run: RunFolder, decoder_run: RunFolder, tmp_path: Path
) -> None:
    options = ["--decoder", str(decoder_run.path)]
    assert main(["publish", str(run.path), "--to", str(tmp_path / "folder"), *options]) == 0
    _, images = sampled(tmp_path / "folder")
    torch.testing.assert_close(images, expected(run, 1.0, decoder_run), atol=1e-4, rtol=0)
    assert main(["publish", str(run.path), "--hub", "alice/tiny", *options]) == 0
    assert main(["pull", "alice/tiny", "--runs", str(tmp_path / "runs")]) == 0
    pulled = tmp_path / "runs" / "alice" / "tiny.decoder" / "weights.safetensors"
    assert sha256_of(pulled) == sha256_of(decoder_run.weights)


def test_configuration_does_not_describe_the_machine(run: RunFolder, tmp_path: Path) -> None:
    local = write_run(
        tmp_path / "runs", [f"data.init_args.path={tmp_path}/scenes", f"tracking.uri=sqlite:///{tmp_path}/a"]
    )
    assert main(["publish", str(local.path), "--to", str(tmp_path / "folder")]) == 0
    for path in (tmp_path / "folder").rglob("*"):
        assert not path.is_file() or str(tmp_path).encode() not in path.read_bytes(), path
    assert "path: data/scenes" in (tmp_path / "folder" / "run" / "config.yaml").read_text()


def test_environment_variables_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MY_SECRET", "hidden-value")
    local = write_run(tmp_path / "runs", ["data.init_args.path=${oc.env:MY_SECRET}"])
    assert main(["publish", str(local.path), "--to", str(tmp_path / "folder")]) == 2
    error = capsys.readouterr().err
    assert "data.init_args.path refers to an environment variable" in error
    assert "hidden-value" not in error
    assert not (tmp_path / "folder").exists()


def test_code_file_is_always_the_same_and_complete(run: RunFolder, tmp_path: Path) -> None:
    code = pipeline_code("1.0")
    assert code == pipeline_code("1.0")
    assert "from pocketdit" not in "\n".join(
        line for line in code.splitlines() if not line.startswith(('"', " ", "is"))
    )
    compile(code, "pipeline.py", "exec")
    assert main(["publish", str(run.path), "--to", str(tmp_path / "folder")]) == 0
    index = json.loads((tmp_path / "folder" / "model_index.json").read_text())
    assert index["_class_name"] == ["pipeline", "PocketDiTPipeline"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--to", "{new}", "--width", "0.7"], "--width 0.7: tiny/first only has the widths 0.5, 1"),
        (["--to", "{full}"], "already exists"),
        (["--to", "{new}", "--public"], "--public: requires --hub"),
        (["--hub", "alice/tiny", "--width", "0.5"], "--width: requires --to"),
    ],
)
def test_wrong_options_are_one_line(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    words = [word.format(new=tmp_path / "new", full=run.path) for word in options]
    assert main(["publish", str(run.path), *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_encoder_without_a_counterpart_is_named(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pocketdit.hub import components

    monkeypatch.setattr(components, "PhraseEncoder", WordEncoder)
    assert main(["publish", str(run.path), "--to", str(tmp_path / "new")]) == 2
    error = capsys.readouterr().err
    assert "text_encoders.1: pocketdit.encoders.hashed_text.PhraseEncoder has no counterpart in diffusers" in error
    assert list(tmp_path.iterdir()) == []
