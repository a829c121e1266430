"""Tests for training an autoencoder: files, losses, resuming, starting from a run, and invalid settings."""

import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pocketdit.artifacts.autoencoder import load_autoencoder
from pocketdit.artifacts.network import load_network
from pocketdit.artifacts.run_folder import RunFolder, find
from pocketdit.commands.main import main
from pocketdit.config.experiment import AutoencoderExperiment
from pocketdit.config.load import load
from pocketdit.encoders.learned import LearnedAutoencoder
from pocketdit.errors import ConfigError, RunError
from pocketdit.images import from_uint8
from pocketdit.running.assemble import build_encoders, build_stage
from pocketdit.stages.autoencoder import TrainAutoencoder
from pocketdit.tracking.journal import read_metrics
from tests.conftest import ROOT
from tests.running.test_resume import kill_after, start, train_losses
from tests.stages.conftest import enable_backward

FILE = ROOT / "experiments" / "emoji" / "autoencoder.yaml"
LOSS = "train/loss/squared"


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the URI of a tracking database for all tests in this file, because creating its tables takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'm.db'}"


@pytest.fixture
def overrides(scenes: Path, tmp_path: Path, uri: str) -> list[str]:
    """Return overrides that shorten ``autoencoder.yaml`` to a run of a few seconds on rendered scenes."""
    return [
        f"data.init_args.path={scenes}",
        f"runs={tmp_path / 'runs'}",
        f"tracking.uri={uri}",
        "data.init_args.batch_size=4",
        "data.init_args.workers=0",
        "data.init_args.validation_samples=4",
        "architecture.channels=[8, 8, 16]",
        "architecture.blocks=[0, 0, 1]",
        "stage.init_args.crop=32",
        "training.max_steps=6",
        "training.warmup_steps=2",
        "training.decay=constant",
        "training.log_every=1",
        "training.validate_every=0",
        "training.checkpoint_every=3",
        "training.sample_every=0",
    ]


def run(overrides: list[str], tmp_path: Path, *more: str) -> RunFolder:
    assert main(["run", str(FILE), *overrides, *more]) == 0
    return find(tmp_path / "runs", "autoencoder")


def create_stage(overrides: list[str], *more: str) -> TrainAutoencoder:
    """Build the stage without a trainer."""
    experiment = load(FILE, [*overrides, *more], AutoencoderExperiment).config
    stage = build_stage(experiment, build_encoders(experiment))
    assert isinstance(stage, TrainAutoencoder)
    enable_backward(stage)
    return stage


def test_a_run_improves_and_writes_weights_that_an_encoder_loads(
    overrides: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = run(overrides, tmp_path, "training.max_steps=40", "training.validate_every=20", "training.ema_decay=0.8",
                 "training.checkpoint_every=40")  # fmt: skip
    recorded = read_metrics(folder.metrics)
    first, last = (value for _, value in recorded["validation/psnr"])
    assert last > first + 1
    assert {LOSS, "train/loss/absolute", "train/loss/magnitude", "train/gradient_norm"} <= set(recorded)
    assert "validation/psnr_noisy" in recorded
    assert (folder.samples / "step-000040.png").stat().st_size > 1000
    out = capfd.readouterr().out
    assert f"autoencoder.init_args.weights={folder.weights}" in out
    network = load_autoencoder(folder)
    state = torch.load(folder.checkpoint, weights_only=True)["state_dict"]
    assert {name.split(".")[0] for name in state} == {"autoencoder", "ema"}
    torch.testing.assert_close(network.mean, state["ema.mean"])
    assert set(load_file(folder.weights)) == set(network.state_dict())
    frozen = LearnedAutoencoder(str(folder.weights), channels=(8, 8, 16), blocks=(0, 0, 1))
    images = torch.rand(2, 3, 64, 48) * 2 - 1
    latents = frozen.encode(images)
    torch.testing.assert_close(latents, network.encode(images))
    torch.testing.assert_close(frozen.decode(latents), network.decode(latents).clamp(-1, 1))
    with pytest.raises(ConfigError, match="trained an autoencoder; use a run that trained a backbone"):
        load_network(folder)


def test_the_loss_is_that_of_the_documentation(overrides: list[str]) -> None:
    stage = create_stage(overrides, "stage.init_args.crop=0", "stage.init_args.noise=0")
    images = torch.randint(256, (2, 3, 32, 24), dtype=torch.uint8)
    target = from_uint8(images)
    raw = stage.autoencoder.encoder(target)
    error = stage.autoencoder.decoder(raw) - target
    (error.square().mean() + 0.05 * error.abs().mean() + 1e-4 * raw.square().mean()).backward()
    expected = [parameter.grad.clone() for parameter in stage.autoencoder.parameters() if parameter.grad is not None]
    stage.autoencoder.zero_grad()
    before = stage.autoencoder.mean.clone()
    losses = stage.gradients({"captions": ["", ""], "images": images}, 0, 1.0)
    torch.testing.assert_close(losses["loss/squared"], error.square().mean().detach())
    actual = [parameter.grad for parameter in stage.autoencoder.parameters()]
    torch.testing.assert_close(actual, expected)
    assert not torch.equal(stage.autoencoder.mean, before)


def test_noise_is_a_fraction_of_the_deviation_of_each_channel(overrides: list[str]) -> None:
    stage = create_stage(overrides, "stage.init_args.noise=0.5")
    latents = torch.randn(8, 16, 40, 40) * torch.linspace(0.1, 10, 16)[:, None, None]
    noise = stage.with_noise(latents, 0) - latents
    ratio = noise.std((0, 2, 3)) / latents.std((0, 2, 3))
    torch.testing.assert_close(ratio, torch.full((16,), 0.5), atol=0.02, rtol=0)
    torch.testing.assert_close(stage.with_noise(latents, 0) - latents, noise)
    assert not torch.equal(stage.with_noise(latents, 1) - latents, noise)


@pytest.mark.slow
def test_killed_run_resumes_bit_for_bit(overrides: list[str], tmp_path: Path) -> None:
    """An epoch has 16 steps, so a run of 20 steps crosses the end of an epoch."""
    arguments = [*overrides, "training.max_steps=20"]
    expected = run([*arguments, "--name", "uninterrupted"], tmp_path)
    killed = start([*arguments, "--name", "killed"], tmp_path / "killed.log", FILE)
    kill_after(killed, tmp_path / "runs" / "autoencoder" / "killed", random.randint(4, 14), LOSS)
    folder = find(tmp_path / "runs", "autoencoder/killed")
    assert not folder.finished.exists()
    run([*arguments, "--resume", "autoencoder/killed"], tmp_path)
    assert train_losses(folder.path) == train_losses(expected.path)
    assert folder.weights.read_bytes() == expected.weights.read_bytes()


def test_training_starts_from_another_run(
    overrides: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = run(overrides, tmp_path, "--name", "first")
    again = create_stage(overrides, "parents.start=autoencoder/first")
    torch.testing.assert_close(again.autoencoder.state_dict(), load_autoencoder(first).state_dict())
    assert main(["run", str(FILE), *overrides, "parents.start=autoencoder/first", "architecture.blocks=[0, 1, 1]"]) == 2
    assert "architecture must have the same settings as in parents.start (autoencoder/first)" in capsys.readouterr().err
    first.weights.write_bytes(b"nothing")
    with pytest.raises(RunError, match="cannot be read"):
        load_autoencoder(first)
    with pytest.raises(RunError, match=r"weights: .* cannot be read"):
        LearnedAutoencoder(str(first.weights), channels=(8, 8, 16), blocks=(0, 0, 1))


def test_other_commands_name_the_problem(scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    no_latents = "trains an autoencoder; use one that trains on latents"
    for arguments, message in (
        (["data", "encode", str(FILE), str(scenes), str(tmp_path / "out")], no_latents),
        (["data", "stats", str(scenes), "--latents", str(FILE)], no_latents),
        (["data", "stats", str(scenes), "--text", str(FILE)], "uses no text encoders"),
    ):
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["architecture.blocks=[1]"], "one number per level"),
        (["architecture.chanels=[1]"], "did you mean 'channels'"),
        (["stage.init_args.crop=20"], "crop must be 0 or a multiple of 8"),
        (["stage.init_args.noise=-1"], "noise: must be from 0 to"),
        (["training.strategy=fsdp2"], "fsdp2 is not supported for an autoencoder; use ddp"),
        (["training.gradient_checkpointing=true"], "an autoencoder does not support it"),
        (
            ["optimizer.class_path=pocketdit.training.muon.MuonAdamW", "optimizer.init_args={}"],
            "use ConvolutionMuonAdamW",
        ),
        (["autoencoder.class_path=pocketdit.encoders.dct.DCTAutoencoder"], "unknown key"),
    ],
)
def test_wrong_settings_are_reported_in_one_line(
    overrides: list[str], tmp_path: Path, more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(FILE), *overrides, *more]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_the_cost_estimate_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(FILE), "--plan"]) == 0
    plan = capsys.readouterr().out
    assert "autoencoder, 96x96" in plan
    assert "0.925 M" in plan
