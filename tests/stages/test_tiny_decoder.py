"""Tests for training a tiny decoder: files, losses, resuming, published autoencoders, and sampling."""

import json
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pocketdit.artifacts.decoder import load_decoder
from pocketdit.artifacts.network import load_network
from pocketdit.artifacts.run_folder import RunFolder, create, find
from pocketdit.commands.main import main
from pocketdit.config.experiment import DecoderExperiment
from pocketdit.config.load import load
from pocketdit.errors import ConfigError, RunError
from pocketdit.losses.adversarial import decoder_adversarial_loss, discriminator_loss
from pocketdit.running.assemble import build_encoders, build_stage
from pocketdit.stages.tiny_decoder import TrainTinyDecoder
from pocketdit.tracking.journal import read_metrics
from tests.conftest import PRETRAIN, ROOT, NewDatabase
from tests.running.test_resume import kill_after, start, train_losses
from tests.stages.conftest import enable_backward

FILE = ROOT / "experiments" / "tiny_decoder.yaml"
LOSS = "train/loss/charbonnier"
PLAIN = ["stage.init_args.perceptual=null", "stage.init_args.perceptual_weight=0"]
ADVERSARIAL = ["stage.init_args.adversarial_weight=0.05", "stage.init_args.discriminator_width=4"]


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory, new_database: NewDatabase) -> str:
    """Return the URI of a tracking database that all tests in this file share."""
    return new_database(tmp_path_factory.mktemp("mlflow"))


@pytest.fixture
def overrides(scenes: Path, tmp_path: Path, uri: str) -> list[str]:
    """Return overrides that shorten ``tiny_decoder.yaml`` to a run of a few seconds."""
    return [
        f"data.init_args.path={scenes}",
        f"runs={tmp_path / 'runs'}",
        f"tracking.uri={uri}",
        "data.init_args.batch_size=4",
        "data.init_args.workers=0",
        "data.init_args.validation_samples=4",
        "decoder.channels=[16, 8]",
        "decoder.blocks=[1, 1]",
        "training.max_steps=6",
        "training.warmup_steps=2",
        "training.decay=constant",
        "training.log_every=1",
        "training.validate_every=0",
        "training.checkpoint_every=2",
        "training.sample_every=0",
    ]


def run(overrides: list[str], tmp_path: Path, *more: str) -> RunFolder:
    assert main(["run", str(FILE), *overrides, *more]) == 0
    return find(tmp_path / "runs", "tiny_decoder")


def create_stage(overrides: list[str], *more: str) -> TrainTinyDecoder:
    """Build the stage without a trainer."""
    experiment = load(FILE, [*overrides, *more], DecoderExperiment).config
    stage = build_stage(experiment, build_encoders(experiment))
    assert isinstance(stage, TrainTinyDecoder)
    enable_backward(stage)
    return stage


def batch(height: int = 128, width: int = 96) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {"images": torch.randint(256, (2, 3, height, width), generator=generator, dtype=torch.uint8)}


def test_a_run_writes_all_its_files(overrides: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = run(overrides, tmp_path, "training.validate_every=6", *ADVERSARIAL)
    for path in (folder.config, folder.checkpoint, folder.weights, folder.metrics, folder.finished):
        assert path.is_file(), path
    assert (folder.samples / "step-000006.png").stat().st_size > 1000
    recorded = read_metrics(folder.metrics)
    losses = {"charbonnier", "scene_features", "adversarial", "discriminator"}
    assert {f"train/loss/{name}" for name in losses} <= set(recorded)
    assert {"train/gradient_norm/decoder", "train/gradient_norm/discriminator"} <= set(recorded)
    assert [step for step, _ in recorded[LOSS]] == list(range(6))
    psnr = {name: recorded[f"validation/psnr/{name}"][0][1] for name in ("autoencoder", "tiny_decoder")}
    assert 25 < psnr["autoencoder"] < 35
    assert psnr["tiny_decoder"] < psnr["autoencoder"]
    assert {"validation/scene_features/autoencoder", "validation/scene_features/tiny_decoder"} <= set(recorded)
    out = capfd.readouterr()
    assert f"--decoder {folder.name}" in out.out
    assert "6/6" in out.err
    state = torch.load(folder.checkpoint, weights_only=True)["state_dict"]
    assert {name.split(".")[0] for name in state} == {"decoder", "ema", "discriminator"}
    decoder = load_decoder(folder)
    assert not any(parameter.requires_grad for parameter in decoder.parameters())
    torch.testing.assert_close(decoder.state_dict()["layers.0.weight"], state["ema.layers.0.weight"])
    assert not torch.equal(state["ema.layers.0.weight"], state["decoder.layers.0.weight"])
    assert set(load_file(folder.weights)) == set(decoder.state_dict())


def test_training_improves_psnr(overrides: list[str], tmp_path: Path) -> None:
    folder = run(overrides, tmp_path, "training.max_steps=75", "training.validate_every=25", "training.ema_decay=0.9",
                 "training.checkpoint_every=75", *PLAIN)  # fmt: skip
    first, second, third = (value for _, value in read_metrics(folder.metrics)["validation/psnr/tiny_decoder"])
    assert third > second > first
    assert third > first + 2

    # The benchmark must measure and plot the same values as the run.
    from benchmarks.tiny_decoder import main as benchmark

    file, plot = tmp_path / "b.json", tmp_path / "b.png"
    runs = str(tmp_path / "runs")
    benchmark(["--quick", "--run", folder.name, "--runs", runs, "--image", str(plot), "--json", str(file)])
    result = json.loads(file.read_text())
    own, tiny = result["held_out"]
    assert tiny["psnr"] == pytest.approx(third, abs=1e-3)
    assert tiny["parameters"] > 0
    assert own["psnr"] == pytest.approx(read_metrics(folder.metrics)["validation/psnr/autoencoder"][0][1], abs=1e-3)
    assert not result["met"]
    assert plot.stat().st_size > 1000


def test_killed_run_resumes_bit_for_bit(overrides: list[str], tmp_path: Path) -> None:
    """A run of 20 steps crosses the end of an epoch (16 steps) and the first step of the discriminator (step 8)."""
    more = [*ADVERSARIAL, "stage.init_args.adversarial_from=8"]
    arguments = [*overrides, *more, "data.init_args.workers=1", "training.max_steps=20", "training.checkpoint_every=3"]
    expected = run([*arguments, "--name", "uninterrupted"], tmp_path)
    killed = start([*arguments, "--name", "killed"], tmp_path / "killed.log", FILE)
    kill_after(killed, tmp_path / "runs" / "tiny_decoder" / "killed", random.randint(4, 14), LOSS)
    folder = find(tmp_path / "runs", "tiny_decoder/killed")
    assert folder.checkpoint.is_file()
    assert not folder.finished.exists()
    assert run([*arguments, "--resume", "tiny_decoder/killed"], tmp_path).path == folder.path
    assert train_losses(folder.path) == train_losses(expected.path)
    assert len(train_losses(folder.path)[LOSS]) == 20
    assert folder.weights.read_bytes() == expected.weights.read_bytes()


def test_latents_and_images_are_cropped_to_the_same_window(overrides: list[str]) -> None:
    """The autoencoder processes blocks separately, so a decoded window of the latents is that window of the image."""
    stage = create_stage(overrides, "stage.init_args.crop=32")
    sums = set()
    smooth = torch.nn.functional.interpolate(torch.randint(256, (2, 3, 8, 6)).float(), (128, 96), mode="bilinear")
    for index in range(8):
        latents, target = stage.latents_and_target({"images": smooth.byte()}, index)
        assert latents.shape == (2, 16, 4, 4)
        assert target.shape == (2, 3, 32, 32)
        assert (stage.encoders.autoencoder.decode(latents) - target).abs().mean() < 0.02
        sums.add(float(target.sum()))
    assert len(sums) > 4
    full = create_stage(overrides, "stage.init_args.crop=0").latents_and_target(batch(), 0)
    wide = create_stage(overrides, "stage.init_args.crop=512").latents_and_target(batch(), 0)
    assert full[1].shape == (2, 3, 128, 96)
    assert torch.equal(full[0], wide[0])


def test_the_decoded_target_is_the_reconstruction_of_the_autoencoder(overrides: list[str]) -> None:
    stage = create_stage(overrides, "stage.init_args.target=decoded")
    latents, target = stage.latents_and_target(batch(), 0)
    torch.testing.assert_close(target, stage.encoders.autoencoder.decode(latents))


def test_each_network_gets_its_own_gradient(overrides: list[str]) -> None:
    stage = create_stage(overrides, *ADVERSARIAL, "stage.init_args.perceptual_weight=0.1")
    assert stage.discriminator is not None
    assert stage.perceptual is not None
    stage.discriminator.eval()  # keep the spectral norms fixed, so that the scores can be reproduced
    latents, target = stage.latents_and_target(batch(), 0)
    images = stage.decoder(latents)
    losses = stage.decoder_gradients(images, target, adversarial=True)
    assert all(p.grad is None for p in stage.discriminator.parameters())
    gradients = [p.grad.clone() for p in stage.decoder.parameters() if p.grad is not None]
    stage.decoder.zero_grad()
    again = stage.decoder(latents)
    error = ((again - target).square() + 1e-4).sqrt().mean() - 0.01
    realism = decoder_adversarial_loss(stage.discriminator(again))
    (error + 0.1 * stage.perceptual.distance(again, target).mean() + 0.05 * realism).backward()
    torch.testing.assert_close(losses["loss/adversarial"], realism.detach())
    for gradient, parameter in zip(gradients, stage.decoder.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad)
    stage.decoder.zero_grad()
    loss = stage.discriminator_gradients(images.detach(), target)
    torch.testing.assert_close(loss, discriminator_loss(stage.discriminator(target), stage.discriminator(images)))
    assert all(p.grad is None for p in stage.decoder.parameters())
    assert all(p.grad is not None for p in stage.discriminator.parameters())


def test_the_discriminator_starts_at_its_step(overrides: list[str], tmp_path: Path) -> None:
    folder = run(overrides, tmp_path, *ADVERSARIAL, "stage.init_args.adversarial_from=3", "training.accumulate=2")
    recorded = read_metrics(folder.metrics)
    assert [step for step, _ in recorded["train/loss/discriminator"]] == [3, 4, 5]
    assert [step for step, _ in recorded["train/gradient_norm/discriminator"]] == [3, 4, 5]
    assert [step for step, _ in recorded["train/gradient_norm/decoder"]] == list(range(6))


def test_a_gradient_that_is_not_finite_stops_the_run(
    overrides: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    status = main(["run", str(FILE), *overrides, "optimizer.init_args.lr=1e30", "training.warmup_steps=0",
                   "training.checkpoint_every=1"])  # fmt: skip
    assert status == 1
    assert "is not finite" in capfd.readouterr().err
    folder = find(tmp_path / "runs", "tiny_decoder")
    assert len(list((folder.path / "nonfinite").glob("*.safetensors"))) == 1
    assert not folder.finished.exists()


@pytest.mark.parametrize("kind", ["flux", "qwen_image"])
def test_published_autoencoders(overrides: list[str], tmp_path: Path, kind: str) -> None:
    """The autoencoders are tiny instances of diffusers' classes with random weights."""
    from tests.encoders.test_vae import write_checkpoints

    write_checkpoints(tmp_path)
    folder = run(overrides, tmp_path, "autoencoder.class_path=pocketdit.encoders.vae.DiffusersAutoencoder",
                 f"autoencoder.init_args={{repository: {tmp_path / kind}, kind: {kind}}}",
                 "stage.init_args.target=decoded", "training.max_steps=16", "training.validate_every=8",
                 "training.ema_decay=0.9")  # fmt: skip
    first, last = (value for _, value in read_metrics(folder.metrics)["validation/psnr/to_autoencoder"])
    assert last > first
    assert load_decoder(folder).decode(torch.randn(1, 16, 3, 2)).shape == (1, 3, 24, 16)


def test_a_data_set_of_latents_requires_the_decoded_target(
    overrides: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "latents"
    assert main(["data", "build", "scenes", str(tmp_path / "images"), "--train", "16", "--validation", "4"]) == 0
    assert main(["data", "encode", str(FILE), str(tmp_path / "images"), str(data)]) == 0
    latents_overrides = [*overrides, f"data.init_args.path={data}"]
    assert main(["run", str(FILE), *latents_overrides]) == 2
    assert "contains latents but no images; set it to decoded" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
    folder = run(latents_overrides, tmp_path, "stage.init_args.target=decoded", "training.validate_every=6")
    assert "validation/psnr/to_autoencoder" in read_metrics(folder.metrics)
    assert (folder.samples / "step-000006.png").is_file()


def test_training_starts_from_another_run(
    overrides: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = run(overrides, tmp_path, "--name", "first")
    again = create_stage(overrides, "parents.start=tiny_decoder/first")
    torch.testing.assert_close(again.decoder.state_dict(), load_decoder(first).state_dict())
    other = ["parents.start=tiny_decoder/first", "decoder.channels=[8, 8]"]
    assert main(["run", str(FILE), *overrides, *other]) == 2
    assert "decoder must have the same settings as in parents.start (tiny_decoder/first)" in capsys.readouterr().err


def test_a_run_can_be_sampled_with_a_tiny_decoder(
    tiny: list[str], overrides: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(PRETRAIN), *tiny, overrides[2], "training.max_steps=1"]) == 0
    folder, runs = run(overrides, tmp_path), str(tmp_path / "runs")
    sample = ["sample", "elastic_pretrain", "a red circle", "--runs", runs, "--steps", "1", "--width", "0.5"]
    images: list[bytes] = []
    for more in ([], ["--decoder", "tiny_decoder"]):
        out = tmp_path / f"{len(images)}.png"
        assert main([*sample, *more, "--out", str(out)]) == 0
        images.append(out.read_bytes())
    assert images[0] != images[1]

    from evaluation.contract import Prompt
    from evaluation.subjects.run import Run

    prompt = Prompt("a", "a red circle")
    subjects = [Run("elastic_pretrain", steps=1, runs=tmp_path / "runs", decoder=d) for d in (None, folder.name)]
    samples = [next(subject.sample([prompt], 0))[1] for subject in subjects]
    assert (samples[0] != samples[1]).any()
    assert folder.name in subjects[1].name
    assert subjects[1].provenance()["decoder"] == folder.name
    assert "decoder" not in subjects[0].provenance()

    capsys.readouterr()
    for more, message in (
        (["--decoder", "elastic_pretrain"], "trained a backbone; use a run that trained a decoder"),
        (["--decoder", "tiny_decodr"], "did you mean tiny_decoder"),
    ):
        assert main([*sample, *more]) in (1, 2)
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert main(["sample", "tiny_decoder", "a red circle", "--runs", runs]) == 2
    assert "trained a decoder; use a run that trained a backbone" in capsys.readouterr().err

    folder.config.write_text(folder.config.read_text().replace("scale: 2.1", "scale: 1.0"))
    assert main([*sample, "--decoder", "tiny_decoder"]) == 2
    assert "trained on the latents of" in capsys.readouterr().err


def test_runs_without_valid_weights(overrides: list[str], tmp_path: Path) -> None:
    empty = create(tmp_path / "runs", "tiny_decoder", "empty", FILE.read_text())
    with pytest.raises(RunError, match="has no weights yet"):
        load_decoder(empty)
    folder = run(overrides, tmp_path)
    folder.weights.write_bytes(b"nothing")
    with pytest.raises(RunError, match="cannot be read as weights"):
        load_decoder(folder)
    with pytest.raises(ConfigError, match="trained a decoder"):
        load_network(folder)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["decoder.latent_channels=4"], "decoder.latent_channels is 4, but must be 16 to match the autoencoder"),
        (["decoder.factor=16"], "decoder.factor is 16, but must be 8 to match the autoencoder"),
        (["decoder.blocks=[1]"], "one number per level"),
        (["decoder.chanels=[1]"], "did you mean 'channels'"),
        (["stage.init_args.crop=20"], "crop must be 0 or a multiple of 8"),
        (["stage.init_args.crop=4", "--plan"], "crop must be 0 or a multiple of 8"),
        (["stage.init_args.crop=-8"], "crop: must be from 0 to"),
        (
            ["stage.init_args.perceptual=null"],
            "perceptual and perceptual_weight must be set together; set both or neither",
        ),
        (["stage.init_args.adversarial_weight=-1"], "adversarial_weight: must be from 0 to"),
        (["training.strategy=fsdp2"], "use ddp"),
        (["training.gradient_checkpointing=true"], "does not support it"),
        (["optimizer.class_path=pocketdit.training.muon.MuonAdamW", "optimizer.init_args={}"], "torch.optim.AdamW"),
        (["parents.start=nothing"], "no run named nothing"),
        (["data.init_args.path=nowhere"], "does not contain a data set"),
        (["backbone.width=3"], "unknown key"),
    ],
)
def test_wrong_settings_are_reported_in_one_line(
    overrides: list[str], tmp_path: Path, more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(FILE), *overrides, *more]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert error.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_the_cost_estimate_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(FILE), "--plan"]) == 0
    plan = capsys.readouterr().out
    assert "0.0515 M" in plan
    assert "timed on this machine" in plan
