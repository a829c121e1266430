"""Tests for fine-tuning with quantization: trained weights, valid parents, and bit-for-bit resuming."""

import json
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pocketdit.artifacts.network import load_network
from pocketdit.artifacts.run_folder import RunFolder, find
from pocketdit.backbones.per_width import PerWidthNetworks, standalone_network
from pocketdit.commands.main import main
from pocketdit.config.experiment import Experiment
from pocketdit.config.load import load
from pocketdit.quantization.palette import load_palettes
from pocketdit.running.assemble import build_encoders, build_stage
from pocketdit.stages.quantize_finetune import QuantizeFinetune
from pocketdit.tracking.journal import read_metrics
from tests.conftest import ROOT
from tests.running.test_resume import kill_after, start, train_losses
from tests.stages.conftest import COMMON, LORA, STUDENT, locations, train
from tests.stages.test_distillation_resume import distill
from tests.stages.test_knowledge_distill import batch

FILE = ROOT / "experiments" / "quantize_finetune.yaml"
LOSS = "train/loss/width_0.5"
RESUMED = ["data.init_args.workers=1", "training.max_steps=24", "training.checkpoint_every=4"]
MANY_STEPS = ["parents.start=elastic_pretrain/p", "stage.init_args.steps=0"]


@pytest.fixture(scope="session")
def quantize_overrides(scenes: Path, family: Path) -> list[str]:
    """Return overrides that shorten ``quantize_finetune.yaml`` to a short run at width 0.5 (32 channels)."""
    bits = ["stage.init_args.low_bits=2", "stage.init_args.average_bits=3", "stage.init_args.weight_threshold=600",
           "stage.init_args.calibration_batches=2"]  # fmt: skip
    return [*locations(scenes, family), *COMMON, *STUDENT, "backbone.widths=[0.5]", *MANY_STEPS, *bits,
            "optimizer.init_args.lr=1e-2"]  # fmt: skip


@pytest.fixture(scope="session")
def uninterrupted(quantize_overrides: list[str], family: Path) -> RunFolder:
    """Return the folder of an uninterrupted run of 24 steps."""
    train("quantize_finetune", *quantize_overrides, *RESUMED, "--name", "uninterrupted")
    return run_folder(family, "uninterrupted")


@pytest.fixture(scope="session")
def four_step_run(scenes: Path, family: Path) -> str:
    """Train a few-step LoRA for every width with plain DMD, and return the name of the run."""
    plain = ["stage.init_args.output_weight=0", "stage.init_args.feature_weight=0", "training.max_steps=5"]
    train("step_distill", *locations(scenes, family), *COMMON, *STUDENT, *LORA, "parents.start=elastic_pretrain",
          *plain, "--name", "parent")  # fmt: skip
    return "step_distill/parent"


def run_folder(family: Path, name: str) -> RunFolder:
    return find(family / "runs", f"quantize_finetune/{name}")


def test_palettes_are_frozen_and_everything_else_is_trained(uninterrupted: RunFolder, family: Path) -> None:
    folder = uninterrupted
    palettes = load_palettes(folder.palettes)
    weights = load_file(folder.weights)
    network = load_network(folder)
    assert isinstance(network, PerWidthNetworks)
    assert list(network.networks) == ["32"]
    half = network.for_width(0.5)
    parent = standalone_network(load_network(find(family / "runs", "elastic_pretrain/p")), 0.5)
    frozen = {f"{name}.weight" for name in palettes}
    assert "stages.0.blocks.0.attention.q.weight" in frozen
    assert "stages.0.blocks.0.attention.gate.weight" not in frozen
    for name, palette in palettes.items():
        assert torch.equal(half.get_parameter(f"{name}.weight"), palette.dense())
        assert torch.equal(weights[f"networks.32.{name}.weight"], palette.dense())
        assert not torch.equal(palette.dense(), parent.get_parameter(f"{name}.weight"))
        assert palette.values.dtype == torch.float16
        assert palette.bits in (2, 8)
    state = torch.load(folder.checkpoint, weights_only=True)["state_dict"]
    others = {name: value for name, value in half.named_parameters() if name not in frozen}
    kinds = {"bias", "norm.weight", "offsets", "null", "gate.weight"}
    assert all(any(kind in name for name in others) for kind in kinds)
    for name in frozen:
        assert torch.equal(state[f"backbone.networks.32.{name}"], state[f"ema.networks.32.{name}"])
    for name, value in others.items():
        assert not torch.equal(value, parent.get_parameter(name)), name
        assert not torch.equal(state[f"backbone.networks.32.{name}"], parent.get_parameter(name)), name
    assert not any("original" in name for name in state)


def test_the_report_contains_bits_and_sizes(
    quantize_overrides: list[str], family: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train("quantize_finetune", *quantize_overrides, "training.max_steps=1", "--name", "reported")
    folder = run_folder(family, "reported")
    report = json.loads((folder.path / "quantization.json").read_text())
    palettes = load_palettes(folder.palettes)
    bits = sum(p.indices.numel() * p.bits + 16 * 2**p.bits for p in palettes.values())
    assert report["average_bits"] == bits / sum(p.indices.numel() for p in palettes.values())
    assert 2.9 < report["average_bits"] <= 3
    assert {layer["name"]: layer["bits"] for layer in report["layers"]} == {n: p.bits for n, p in palettes.items()}
    parameters = sum(p.numel() for p in load_network(folder).parameters())
    assert report["bytes_fp16"] == 2 * parameters
    assert report["palettized_weights"] + report["other_parameters"] == parameters
    assert (folder.path / "quantization.png").read_bytes().startswith(b"\x89PNG")
    assert f"{report['average_bits']:.3f} bits per weight" in capsys.readouterr().out


def test_the_most_sensitive_layers_have_more_bits(uninterrupted: RunFolder) -> None:
    layers = json.loads((uninterrupted.path / "quantization.json").read_text())["layers"]
    high = [layer for layer in layers if layer["bits"] == 8]
    assert high
    assert max(layers, key=lambda layer: layer["error"])["bits"] == 8
    assert {layer["name"]: layer["error"] for layer in layers if not 0 < layer["error"] < 1.5} == {}


def create_stage(overrides: list[str], *more: str) -> QuantizeFinetune:
    experiment: Experiment = load(FILE, [*overrides, *more], Experiment).config
    stage = build_stage(experiment, build_encoders(experiment))
    assert isinstance(stage, QuantizeFinetune)
    return stage


def test_the_loss_is_the_distance_to_the_unquantized_network(quantize_overrides: list[str]) -> None:
    """The loss is the mean squared difference of the velocities, which is zero as long as the weights are unchanged."""
    stage = create_stage(quantize_overrides, "stage.init_args.time_shift=3")
    noisy = stage.prepare(batch(), 3)
    assert not noisy.target.requires_grad
    assert len(set(noisy.time.tolist())) == 4
    assert stage.loss(noisy, 0.5)[0].item() == 0.0
    assert isinstance(stage.backbone, PerWidthNetworks)
    with torch.no_grad():
        stage.backbone.for_width(0.5).unembed.bias.add_(0.5)
    loss, prediction, _ = stage.loss(noisy, 0.5)
    original = stage.unquantized.network(noisy.x_t, noisy.time, noisy.text, width=0.5)
    assert loss.item() == pytest.approx((prediction - original).square().mean().item())
    assert loss.item() > 0


def test_inputs_of_a_few_step_model_are_its_own_rollout(quantize_overrides: list[str], four_step_run: str) -> None:
    stage = create_stage(
        quantize_overrides, f"parents.start={four_step_run}", "stage.init_args.steps=4", "stage.init_args.time_shift=3"
    )
    times = {round(float(stage.prepare(batch(), step).time[0]), 6) for step in range(30)}
    assert times == {1.0, 0.9, 0.75, 0.5}
    inputs = [stage.noisy_batch(batch(), 7, step) for step in (0, 1, 2)]
    x, t = inputs[1].x_t, inputs[1].time
    assert t.tolist() == pytest.approx([0.9] * 4)
    with torch.no_grad():
        step = x + (0.75 - 0.9) * stage.backbone(x, t, inputs[1].text, width=0.5)
    torch.testing.assert_close(inputs[2].x_t, step)
    assert not inputs[2].x_t.requires_grad


def test_the_lora_of_a_few_step_parent_is_merged(
    quantize_overrides: list[str], family: Path, four_step_run: str, tmp_path: Path
) -> None:
    overrides = [*quantize_overrides, f"parents.start={four_step_run}", "stage.init_args.steps=4"]
    stage = create_stage(overrides)
    parent = load_network(find(family / "runs", four_step_run))
    assert isinstance(parent, PerWidthNetworks)
    for name, value in parent.for_width(0.5).named_parameters():
        assert torch.equal(stage.unquantized.network.for_width(0.5).get_parameter(name), value), name
    train("quantize_finetune", *overrides, "--name", "few")
    assert main(["sample", str(run_folder(family, "few").path), "a red circle", "--out", str(tmp_path / "x.png")]) == 0
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


def test_validation_and_gradient_checkpointing_run(quantize_overrides: list[str], family: Path) -> None:
    train("quantize_finetune", *quantize_overrides, "training.validate_every=5", "training.gradient_checkpointing=true",
          "training.accumulate=2", "--name", "validated")  # fmt: skip
    recorded = read_metrics(run_folder(family, "validated").metrics)
    assert len(recorded["validation/loss/width_0.5"]) == 2
    assert len(recorded[LOSS]) == 10


def test_killed_run_resumes_bit_for_bit(
    quantize_overrides: list[str],
    uninterrupted: RunFolder,
    family: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    overrides = [*quantize_overrides, *RESUMED]
    killed = start([*overrides, "--name", "killed"], tmp_path / "killed.log", FILE)
    kill_after(killed, family / "runs" / "quantize_finetune" / "killed", random.randint(5, 18), LOSS)
    folder = run_folder(family, "killed")
    assert folder.checkpoint.is_file()
    assert not folder.finished.exists()
    capsys.readouterr()
    train("quantize_finetune", *overrides, "--resume", "quantize_finetune/killed")
    assert "bits per weight" not in capsys.readouterr().out  # the resumed run does not quantize again
    assert train_losses(folder.path) == train_losses(uninterrupted.path)
    assert len(train_losses(folder.path)[LOSS]) == 24
    assert folder.weights.read_bytes() == uninterrupted.weights.read_bytes()
    assert folder.palettes.read_bytes() == uninterrupted.palettes.read_bytes()


@pytest.mark.slow
def test_two_processes_compute_the_same_palettes(quantize_overrides: list[str], family: Path) -> None:
    """Each process measures sensitivity with different batches. The sums over both processes determine the palettes."""
    distill("quantize_finetune", quantize_overrides, "ddp", "ddp", "training.max_steps=10")
    folder = run_folder(family, "ddp")
    half = standalone_network(load_network(folder), 0.5)
    for name, palette in load_palettes(folder.palettes).items():
        assert torch.equal(half.get_parameter(f"{name}.weight"), palette.dense())
    losses = [value for _, value in train_losses(folder.path)[LOSS]]
    assert sum(losses[-3:]) < sum(losses[:3])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("backbone.widths=[0.5, 1.0]", "backbone.widths: must contain only the width to quantize"),
        ("backbone.widths=[0.25]", "backbone.widths"),
        ("stage.init_args.average_bits=2.0", "palettes included"),
        ("stage.init_args.low_bits=3", "two of"),
        ("stage.init_args.weight_threshold=100000", "no layer has more"),
        ("training.strategy=fsdp2", "use ddp"),
        ("parents={}", "parents.start"),
    ],
)
def test_wrong_settings_are_reported_in_one_line(
    quantize_overrides: list[str], change: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(FILE), *quantize_overrides, change]) == 2
    assert message in capsys.readouterr().err


def test_a_few_step_model_has_no_validation_loss(
    quantize_overrides: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = [*quantize_overrides, "stage.init_args.steps=4", "training.validate_every=5"]
    assert main(["run", str(FILE), *overrides]) == 2
    assert "validate_every must be 0" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["elastic_pretrain", "knowledge_distill"])
def test_other_stages_need_the_full_width(
    name: str, knowledge_overrides: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(ROOT / "experiments" / f"{name}.yaml"), *knowledge_overrides, "backbone.widths=[0.5]"]) == 2
    assert "backbone.widths must include 1.0" in capsys.readouterr().err
