"""Tests for step distillation: the update schedule, the gradients, and the shared weights."""

from pathlib import Path

import pytest
import torch

from pocketdit.artifacts.network import load_network
from pocketdit.artifacts.run_folder import find
from pocketdit.backbones.dit import ElasticDiT
from pocketdit.backbones.lora import active_adapter, adapter_parameters
from pocketdit.backbones.per_width import PerWidthNetworks, base_parameters
from pocketdit.commands.main import main
from pocketdit.config.experiment import Experiment
from pocketdit.config.load import load
from pocketdit.losses import distribution_matching
from pocketdit.running.assemble import build_encoders, build_stage
from pocketdit.seeding import generator
from pocketdit.stages.lora_roles import CRITIC, EMA, STUDENT
from pocketdit.stages.step_distill import StepDistill
from pocketdit.teachers.run import RunTeacher
from pocketdit.tracking.journal import read_metrics
from tests.backbones.test_lora import fill_adapter, storage_bytes
from tests.conftest import ROOT
from tests.stages.conftest import enable_backward, train
from tests.stages.test_knowledge_distill import batch

FILE = ROOT / "experiments" / "step_distill.yaml"


def create_stage(overrides: list[str], *more: str) -> StepDistill:
    """Build the stage without a trainer."""
    experiment: Experiment = load(FILE, [*overrides, *more], Experiment).config
    stage = build_stage(experiment, build_encoders(experiment))
    assert isinstance(stage, StepDistill)
    enable_backward(stage)
    return stage


def teacher_network(stage: StepDistill) -> ElasticDiT:
    assert isinstance(stage.teacher, RunTeacher)
    return stage.teacher.network


def moved(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor], adapter: str, hidden: int) -> bool:
    names = [name for name in after if f"networks.{hidden}." in name and f".{adapter}." in name]
    assert names
    return any(not torch.equal(before[name], after[name]) for name in names)


def states(step_overrides: list[str], family: Path, name: str, steps: list[int]) -> list[dict[str, torch.Tensor]]:
    """Train a run step by step, and return its state after each number of iterations in ``steps``."""
    snapshots = []
    for count, step in enumerate(steps):
        run = ["--resume", f"step_distill/{name}"] if count else ["--name", name]
        train("step_distill", *step_overrides, f"training.max_steps={step}", *run)
        state = torch.load(find(family / "runs", f"step_distill/{name}").checkpoint, weights_only=True)
        snapshots.append({k: v.clone() for k, v in state["state_dict"].items()})
    return snapshots


def test_critics_are_trained_in_every_iteration_and_students_in_every_fifth(
    step_overrides: list[str], family: Path
) -> None:
    """Iterations 0 to 4 train width 0.5 (32 channels), and iterations 5 to 9 train width 1 (64 channels)."""
    first, fourth, fifth, sixth, tenth = states(step_overrides, family, "turns", [1, 4, 5, 6, 10])
    assert moved(first, fourth, CRITIC, 32)
    assert not moved(first, fourth, CRITIC, 64)
    assert not moved(first, fourth, STUDENT, 32)
    assert not moved(first, fourth, EMA, 32)
    assert moved(fourth, fifth, STUDENT, 32)
    assert moved(fourth, fifth, EMA, 32)
    assert moved(fourth, fifth, CRITIC, 32)
    assert moved(fifth, sixth, CRITIC, 64)
    assert not moved(fifth, sixth, CRITIC, 32)
    assert not moved(fifth, tenth, STUDENT, 32)
    assert moved(sixth, tenth, STUDENT, 64)
    bases = [k for k in first if ".lora_" not in k and k.startswith("networks")]
    assert bases
    assert all(torch.equal(first[k], tenth[k]) for k in bases)
    recorded = read_metrics(find(family / "runs", "step_distill/turns").metrics)
    assert [step for step, _ in recorded["train/loss/critic"]] == list(range(10))
    assert [step for step, _ in recorded["train/loss/matching"]] == [4, 9]
    assert [step for step, _ in recorded["train/gradient_norm/student"]] == [4, 9]
    assert {"train/health/p_real", "train/width_0.5/loss/output", "train/width_1/loss/feature"} <= set(recorded)


def test_an_iteration_with_accumulation_is_one_step(step_overrides: list[str], family: Path) -> None:
    train("step_distill", *step_overrides, "training.max_steps=5", "training.accumulate=2", "--name", "two")
    folder = find(family / "runs", "step_distill/two")
    assert folder.finished_steps() == 5
    recorded = read_metrics(folder.metrics)
    assert sorted({step for step, _ in recorded["train/loss/matching"]}) == [4]
    assert len(recorded["train/gradient_norm/critic"]) == 5


def test_the_accumulated_gradient_is_the_mean(step_overrides: list[str]) -> None:
    stage = create_stage(step_overrides)
    inputs = stage.prepare(batch(), 4, 4, 0.5)
    stage.critic_gradients(inputs, inputs.x_t)
    once = [p.grad.clone() for p in stage.critic_parameters() if p.grad is not None]
    for p in stage.critic_parameters():
        p.grad = None
    for _ in range(2):
        stage.critic_gradients(inputs, inputs.x_t, share=0.5)
    for a, b in zip(once, [p.grad for p in stage.critic_parameters() if p.grad is not None], strict=True):
        torch.testing.assert_close(a, b)


def test_the_gradient_of_the_student_is_equation_9_for_its_last_step(step_overrides: list[str]) -> None:
    """With L_DMD alone, only the student gets a gradient, which is (f_c - f_xi) dx_0 / dtheta, normalized."""
    stage = create_stage(step_overrides, "stage.init_args.output_weight=0", "stage.init_args.feature_weight=0")
    network = stage.networks.for_width(0.5)
    for seed, name in enumerate((STUDENT, CRITIC)):
        fill_adapter(network, name, seed)
    inputs = stage.prepare(batch(), 4, 4, 0.5)
    assert not inputs.x_t.requires_grad
    stage.student_gradients(inputs)
    gradients = {k: p.grad.clone() for k, p in adapter_parameters(network, STUDENT).items() if p.grad is not None}
    assert all(p.grad is None for p in adapter_parameters(network, CRITIC).values())

    x_0 = inputs.x_t - inputs.time[:, None, None, None] * network(inputs.x_t, inputs.time, inputs.text)
    noise, time = stage.draw_noise("matching", x_0, inputs.position)
    t = time[:, None, None, None]
    x_tau = (1 - t) * x_0.detach() + t * noise
    with torch.no_grad():
        real = x_tau - t * stage.teacher.predict(x_tau, time, inputs.condition, stage.guidance).velocity
        with active_adapter(network, CRITIC, restore=STUDENT):
            fake = x_tau - t * network(x_tau, time, inputs.text)
    scale = (x_0.detach() - real).abs().mean((1, 2, 3), keepdim=True)
    expected = torch.autograd.grad(x_0, list(adapter_parameters(network, STUDENT).values()),
                                   (fake - real) / scale / x_0.numel())  # fmt: skip
    for (name, gradient), reference in zip(gradients.items(), expected, strict=True):
        torch.testing.assert_close(gradient, reference, rtol=1e-3, atol=1e-7, msg=name)


def test_flipping_the_sign_flips_the_gradient(step_overrides: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The sign matters: if the f in Eq. 9 were interpreted as velocities, the gradient would have the opposite sign."""

    def gradient() -> torch.Tensor:
        stage = create_stage(step_overrides, "stage.init_args.output_weight=0", "stage.init_args.feature_weight=0")
        fill_adapter(stage.networks.for_width(0.5), CRITIC, 0)
        stage.student_gradients(stage.prepare(batch(), 4, 4, 0.5))
        return torch.cat([p.grad.flatten() for p in stage.student_parameters() if p.grad is not None])

    right = gradient()
    original = distribution_matching.matching_gradient
    monkeypatch.setattr(
        distribution_matching, "matching_gradient", lambda *a, **k: (-original(*a, **k)[0], original(*a, **k)[1])
    )
    torch.testing.assert_close(gradient(), -right)


def test_the_output_loss_uses_the_few_step_teacher(step_overrides: list[str]) -> None:
    """L_out compares the student with the few-step teacher, not with the original teacher, on the same inputs."""
    stage = create_stage(step_overrides, "stage.init_args.matching_weight=0", "stage.init_args.feature_weight=0")
    fill_adapter(teacher_network(stage), "few_step", 3)
    inputs = stage.prepare(batch(), 4, 4, 1.0)
    _, losses = stage.student_gradients(inputs)
    with torch.no_grad():
        own = stage.networks(inputs.x_t, inputs.time, inputs.text, 1.0)
        plain = stage.teacher.predict(inputs.x_t, inputs.time, inputs.condition).velocity
        with stage.teacher.few_step():
            few = stage.teacher.predict(inputs.x_t, inputs.time, inputs.condition).velocity
    torch.testing.assert_close(losses["loss/output"], (own - few).square().mean(), rtol=1e-4, atol=1e-6)
    assert (few - plain).abs().max() > 1e-3


def test_gradients_are_the_same_with_gradient_checkpointing(step_overrides: list[str]) -> None:
    """When the backward pass recomputes a forward pass, it must use the adapter of the original forward pass."""
    gradients = []
    for checkpointing in (False, True):
        stage = create_stage(step_overrides, f"training.gradient_checkpointing={checkpointing}")
        assert all(part.gradient_checkpointing == checkpointing for part in stage.networks.for_width(0.5).stages)
        fill_adapter(stage.networks.for_width(0.5), CRITIC, 0)
        inputs = stage.prepare(batch(), 4, 4, 0.5)
        x_0, _ = stage.student_gradients(inputs)
        stage.critic_gradients(inputs, x_0.detach())
        parameters = [*stage.student_parameters(), *stage.critic_parameters()]
        gradients.append([p.grad for p in parameters if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 0
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, checkpointed)


def test_the_rollout_visits_all_sampling_times(step_overrides: list[str]) -> None:
    stage = create_stage(step_overrides)
    seen = {round(float(stage.prepare(batch(), i, i, 0.5).time[0]), 4) for i in range(40)}
    assert seen == {1.0, 0.9, 0.75, 0.5}


def test_noise_is_added_to_data_for_the_same_times(step_overrides: list[str]) -> None:
    stage = create_stage(step_overrides, "stage.init_args.student_input=data")
    data = stage.encoders.latents(batch())
    noise = torch.randn(data.shape, generator=generator("noise", stage.seed, 3, 0))
    inputs = stage.prepare(batch(), 3, 3, 0.5)
    t = float(inputs.time[0])
    assert round(t, 4) in (1.0, 0.9, 0.75, 0.5)
    torch.testing.assert_close(inputs.x_t, (1 - t) * data + t * noise)


def test_networks_share_the_memory_of_their_base(step_overrides: list[str]) -> None:
    """All students, critics, and EMA networks share the supernet's weights. Both teachers share one set of weights."""
    stage = create_stage(step_overrides)
    widths = stage.networks.spec.widths
    lora = sum(4 * p.numel() for w in widths for name in (STUDENT, CRITIC, EMA)
               for p in adapter_parameters(stage.networks.for_width(w), name).values())  # fmt: skip
    supernet = storage_bytes(load_network(find(runs_folder(step_overrides), "elastic_pretrain/p")))
    assert storage_bytes(stage.networks) == supernet + lora
    teacher = storage_bytes(load_network(find(runs_folder(step_overrides), "teacher/t")))
    few = sum(4 * p.numel() for p in adapter_parameters(teacher_network(stage), "few_step").values())
    assert storage_bytes(teacher_network(stage)) == teacher + few < 1.5 * teacher


def runs_folder(overrides: list[str]) -> Path:
    return Path(next(override.removeprefix("runs=") for override in overrides if override.startswith("runs=")))


def test_saved_weights_are_the_base_and_the_ema_student(step_overrides: list[str], family: Path) -> None:
    train("step_distill", *step_overrides, "--name", "weights")
    folder = find(family / "runs", "step_distill/weights")
    loaded = load_network(folder)
    assert isinstance(loaded, PerWidthNetworks)
    experiment: Experiment = load(folder.config, [], Experiment).config
    stage = build_stage(experiment, build_encoders(experiment))
    assert isinstance(stage, StepDistill)
    stage.load_state_dict(torch.load(folder.checkpoint, weights_only=True)["state_dict"])
    inputs = create_stage(step_overrides).prepare(batch(), 0, 0, 1.0)
    for width in (0.5, 1.0):
        with torch.no_grad(), stage.ema_network() as network:
            expected = network(inputs.x_t, inputs.time, inputs.text, width)
        torch.testing.assert_close(loaded(inputs.x_t, inputs.time, inputs.text, width), expected, atol=1e-5, rtol=1e-4)
    parent = load_network(find(family / "runs", "elastic_pretrain/p"))
    for name, value in base_parameters(stage.networks.for_width(1.0)).items():
        assert torch.equal(value, parent.state_dict()[name])


def test_plain_dmd_does_not_need_a_few_step_teacher(step_overrides: list[str], family: Path) -> None:
    """``teacher_few_step.yaml`` trains the LoRA with plain DMD, without a few-step teacher."""
    recorded = read_metrics(find(family / "runs", "teacher_few_step/f").metrics)
    assert "train/loss/matching" in recorded
    assert "train/loss/output" not in recorded


def test_the_few_step_teacher_is_loaded_only_for_its_losses(step_overrides: list[str]) -> None:
    weights = [f"stage.init_args.{name}_weight=0" for name in ("output", "feature")]
    assert create_stage(step_overrides).teacher.has_few_step
    assert create_stage(step_overrides, weights[0]).teacher.has_few_step
    assert not create_stage(step_overrides, *weights).teacher.has_few_step


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["stage.init_args.teacher.init_args.few_step=null"], "require a few-step teacher"),
        (["parents.few_step=elastic_pretrain"], "started from None, not from the teacher"),
        (["parents.teacher=elastic_pretrain"], "started from teacher/t, not from the teacher elastic_pretrain/p"),
        (["stage.init_args.steps=0"], "steps: must be from 1 to"),
        (["training.validate_every=5"], "validate_every must be 0"),
        (["optimizer.class_path=pocketdit.training.muon.MuonAdamW", "optimizer.init_args={}"], "does not support LoRA"),
        (
            [
                "stage.init_args.output_weight=0",
                "stage.init_args.feature_weight=0",
                "stage.init_args.matching_weight=0",
            ],
            "are all 0; set at least one",
        ),
        (["stage.init_args.output_wieght=0"], "did you mean 'output_weight'"),
    ],
)
def test_wrong_settings_are_reported_in_one_line(
    step_overrides: list[str], overrides: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(FILE), *step_overrides, *overrides]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert error.count("\n") == 1


def test_samples_take_four_steps(
    step_overrides: list[str], family: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train("step_distill", *step_overrides, "training.max_steps=1", "--name", "sampled")
    out = tmp_path / "four.png"
    overrides = ["sample", "step_distill/sampled", "a red circle", "--runs", str(family / "runs"), "--out", str(out)]
    assert main([*overrides, "--steps", "4"]) == 0
    assert out.stat().st_size > 1000
    assert "width 1: 1 image, 4 sampling steps (euler)" in capsys.readouterr().out
