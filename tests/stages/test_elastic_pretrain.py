"""Tests for elastic pre-training: losses, gradients, EMA weights, and non-finite losses."""

from pathlib import Path

import pytest
import torch

from pocketdit.artifacts.network import load_network
from pocketdit.artifacts.run_folder import RunFolder, find
from pocketdit.commands.main import main
from pocketdit.config.experiment import Experiment
from pocketdit.config.load import load
from pocketdit.running.assemble import build_encoders, build_stage
from pocketdit.stages.elastic_pretrain import ElasticPretrain, NoisyBatch
from pocketdit.tracking.journal import read_metrics
from pocketdit.training.step_samples import StepSamples
from tests.conftest import PRETRAIN
from tests.stages.conftest import enable_backward


def losses(folder: Path) -> dict[str, list[tuple[int, float]]]:
    return {k: v for k, v in read_metrics(folder / "metrics.jsonl").items() if k.startswith("train/")}


def run(tiny: list[str], tmp_path: Path, *more: str) -> RunFolder:
    assert main(["run", str(PRETRAIN), *tiny, *more]) == 0
    return find(tmp_path / "runs", "elastic_pretrain")


def test_a_run_writes_all_its_files(tiny: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = run(tiny, tmp_path, "training.validate_every=6", "training.max_steps=6")
    for path in (folder.config, folder.checkpoint, folder.weights, folder.metrics, folder.finished):
        assert path.is_file(), path
    assert (folder.samples / "step-000006.png").stat().st_size > 1000
    recorded = read_metrics(folder.metrics)
    assert [step for step, _ in recorded["train/loss/width_1"]] == list(range(6))
    assert {"validation/loss/width_0.5", "validation/loss/width_1", "validation/level_0.0625/width_1"} <= set(recorded)
    ((_, waited),) = recorded["speed/data_wait"]
    assert 0 < waited < 1
    assert "speed/mfu" not in recorded, "MFU requires a known peak performance, which CPUs do not have"
    out = capfd.readouterr()
    assert "lightning sample" in out.out
    assert "6/6" in out.err
    assert "ETA" in out.err
    network = load_network(folder)
    assert network.spec.widths == (0.5, 1.0)
    assert not any(p.requires_grad for p in network.parameters())


def test_the_seed_determines_the_losses(tiny: list[str], tmp_path: Path) -> None:
    first, second = run(tiny, tmp_path, "--name", "a"), run(tiny, tmp_path, "--name", "b")
    third = run(tiny, tmp_path, "--name", "c", "seed=1")
    assert losses(first.path) == losses(second.path)
    assert losses(first.path)["train/loss/width_1"] != losses(third.path)["train/loss/width_1"]


@pytest.mark.parametrize("scaling", ["adaptive", "sum"])
def test_accumulated_gradients_equal_those_of_one_large_batch(tiny: list[str], tmp_path: Path, scaling: str) -> None:
    """The accumulated gradients of a batch's parts equal the whole batch's gradients, even if the sizes differ."""
    overrides = [*tiny, f"stage.init_args.gradient_scaling={scaling}"]
    experiment: Experiment = load(PRETRAIN, overrides, Experiment).config
    stage = build_stage(experiment, build_encoders(experiment))
    assert isinstance(stage, ElasticPretrain)
    enable_backward(stage)
    for parameter in stage.backbone.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    generator = torch.Generator().manual_seed(0)
    x, target = (torch.randn(4, 16, 8, 8, generator=generator) for _ in range(2))
    time, text = torch.rand(4, generator=generator), stage.encoders.tokens(["a red circle"] * 4)
    parameters = list(stage.backbone.parameters())

    def gradient(parts: list[slice]) -> list[torch.Tensor | None]:
        for parameter in parameters:
            parameter.grad = None
        samples = StepSamples(len(parts))
        for part in parts:
            tokens = [type(t)(t.embeddings[part], t.mask[part]) for t in text]
            noisy = NoisyBatch(x[part], time[part], tokens, target[part])
            stage.add_gradients(noisy, number=0, share=samples.share(len(noisy.time)))
        stage.combine_gradients()
        samples.normalize(parameters)
        return [p.grad for p in parameters]

    full = gradient([slice(0, 4)])
    for parts in ([slice(0, 2), slice(2, 4)], [slice(0, 3), slice(3, 4)]):
        for a, b in zip(full, gradient(parts), strict=True):
            assert (a is None) == (b is None)
            if a is not None and b is not None:
                torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("scaling", ["adaptive", "sum"])
def test_training_lowers_the_loss_of_both_widths(tiny: list[str], tmp_path: Path, scaling: str) -> None:
    folder = run(tiny, tmp_path, "training.max_steps=60", f"stage.init_args.gradient_scaling={scaling}",
                 "data.init_args.batch_size=8", "training.checkpoint_every=60")  # fmt: skip
    for name in ("train/loss/width_1", "train/loss/width_0.5"):
        values = torch.tensor([value for _, value in losses(folder.path)[name]])
        # The first losses are already low, because an untrained network makes the best linear prediction.
        assert values[-20:].mean() < 0.9 * values[:5].mean()
    assert ("train/gradient_scale" in losses(folder.path)) == (scaling == "adaptive")


def test_a_loss_that_is_not_finite_stops_the_run_and_saves_the_batch(
    tiny: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A learning rate of 1e30 makes the second loss infinite. The last checkpoint with finite weights is kept."""
    status = main(["run", str(PRETRAIN), *tiny, "optimizer.init_args.adamw_lr=1e30", "training.warmup_steps=0",
                   "training.checkpoint_every=1"])  # fmt: skip
    assert status == 1
    message = capfd.readouterr().err
    assert "is not finite" in message
    assert "Traceback" not in message
    folder = find(tmp_path / "runs", "elastic_pretrain")
    saved = list((folder.path / "nonfinite").glob("*.safetensors"))
    assert len(saved) == 1
    assert saved[0].with_suffix(".json").is_file()
    state = torch.load(folder.checkpoint, weights_only=True)["state_dict"]
    assert all(value.isfinite().all() for value in state.values())
    assert not folder.finished.exists()


def test_the_checkpoint_does_not_contain_the_encoders(tiny: list[str], tmp_path: Path) -> None:
    folder = run(tiny, tmp_path, "training.max_steps=1")
    names = torch.load(folder.checkpoint, weights_only=True)["state_dict"]
    assert {name.split(".")[0] for name in names} == {"backbone", "ema"}


def test_ema_weights_follow_the_backbone(tiny: list[str], tmp_path: Path) -> None:
    folder = run(tiny, tmp_path)
    state = torch.load(folder.checkpoint, weights_only=True)["state_dict"]
    weight, ema = state["backbone.embed.weight"], state["ema.embed.weight"]
    assert not torch.equal(weight, ema)
    assert (weight - ema).abs().max() < 0.1
    torch.testing.assert_close(load_network(folder).get_parameter("embed.weight"), ema)
