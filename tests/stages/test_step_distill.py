"""Step distillation: which weights are trained when, by which gradients, and what shares memory."""

from pathlib import Path

import pytest
import torch

from pocketdit.artifacts.network import load_network
from pocketdit.artifacts.run_folder import find
from pocketdit.backbones.lora import adapter_parameters
from pocketdit.backbones.per_width import PerWidthNetworks, base_parameters
from pocketdit.commands.main import main
from pocketdit.config.experiment import Experiment
from pocketdit.config.load import load
from pocketdit.losses import distribution_matching
from pocketdit.running.assemble import build_encoders, build_stage
from pocketdit.seeding import generator
from pocketdit.stages.lora_roles import CRITIC, EMA, STUDENT
from pocketdit.stages.step_distill import StepDistill
from pocketdit.tracking.journal import read_metrics
from tests.backbones.test_lora import fill, storage_bytes
from tests.conftest import ROOT
from tests.stages.conftest import train
from tests.stages.test_knowledge_distill import batch

FILE = ROOT / "experiments" / "step_distill.yaml"


def stage(overrides: list[str], *more: str) -> StepDistill:
    experiment: Experiment = load(FILE, [*overrides, *more], Experiment).config
    built = build_stage(experiment, build_encoders(experiment))
    assert isinstance(built, StepDistill)
    built.manual_backward = lambda loss: loss.backward()
    return built


def moved(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor], adapter: str, hidden: int) -> bool:
    names = [name for name in after if f"networks.{hidden}." in name and f".{adapter}." in name]
    assert names
    return any(not torch.equal(before[name], after[name]) for name in names)


def states(few_steps: list[str], family: Path, name: str, steps: list[int]) -> list[dict[str, torch.Tensor]]:
    """Return the training state of one run after each number of iterations in ``steps``."""
    snapshots = []
    for count, step in enumerate(steps):
        train("step_distill", *few_steps, f"training.max_steps={step}", *(["--resume", f"step_distill/{name}"] if count
              else ["--name", name]))  # fmt: skip
        state = torch.load(find(family / "runs", f"step_distill/{name}").checkpoint, weights_only=True)
        snapshots.append({k: v.clone() for k, v in state["state_dict"].items()})
    return snapshots


def test_critics_are_trained_in_every_iteration_and_students_in_every_fifth(few_steps: list[str], family: Path) -> None:
    """Iterations 0 to 4 train width 0.5 (32 channels), 5 to 9 train width 1 (64 channels)."""
    first, fourth, fifth, sixth, tenth = states(few_steps, family, "turns", [1, 4, 5, 6, 10])
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


def test_iterations_are_steps_with_accumulation_too(few_steps: list[str], family: Path) -> None:
    train("step_distill", *few_steps, "training.max_steps=5", "training.accumulate=2", "--name", "two")
    folder = find(family / "runs", "step_distill/two")
    assert folder.finished_steps() == 5
    recorded = read_metrics(folder.metrics)
    assert sorted({step for step, _ in recorded["train/loss/matching"]}) == [4]
    assert len(recorded["train/gradient_norm/critic"]) == 5


def test_the_accumulated_gradient_is_the_mean(few_steps: list[str]) -> None:
    system = stage(few_steps)
    inputs = system.prepare(batch(), 4, 4, 0.5)
    system.critic_gradients(inputs, inputs.x_t)
    once = [p.grad.clone() for p in system.critic_parameters() if p.grad is not None]
    for p in system.critic_parameters():
        p.grad = None
    object.__setattr__(system.training_spec, "accumulate", 2)
    for _ in range(2):
        system.critic_gradients(inputs, inputs.x_t)
    for a, b in zip(once, [p.grad for p in system.critic_parameters() if p.grad is not None], strict=True):
        torch.testing.assert_close(a, b)


def test_the_gradient_of_the_student_is_equation_9_through_its_last_step(few_steps: list[str]) -> None:
    """With L_DMD alone, it is (f_c - f_xi) dx_0 / dtheta, normalized, and no gradient takes another path."""
    system = stage(few_steps, "stage.init_args.output_weight=0", "stage.init_args.feature_weight=0")
    network = system.networks.for_width(0.5)
    for seed, name in enumerate((STUDENT, CRITIC)):
        fill(network, name, seed)
    inputs = system.prepare(batch(), 4, 4, 0.5)
    assert not inputs.x_t.requires_grad
    system.student_gradients(inputs)
    gradients = {k: p.grad.clone() for k, p in adapter_parameters(network, STUDENT).items() if p.grad is not None}
    assert all(p.grad is None for p in adapter_parameters(network, CRITIC).values())

    x_0 = inputs.x_t - inputs.time[:, None, None, None] * network(inputs.x_t, inputs.time, inputs.text)
    noise, time = system.draw_noise("matching", x_0, inputs.position)
    t = time[:, None, None, None]
    x_tau = (1 - t) * x_0.detach() + t * noise
    with torch.no_grad():
        real = x_tau - t * system.teacher.predict(x_tau, time, inputs.condition, system.guidance).velocity
        from pocketdit.backbones.lora import active_adapter

        with active_adapter(network, CRITIC, restore=STUDENT):
            fake = x_tau - t * network(x_tau, time, inputs.text)
    scale = (x_0.detach() - real).abs().mean((1, 2, 3), keepdim=True)
    expected = torch.autograd.grad(x_0, list(adapter_parameters(network, STUDENT).values()),
                                   (fake - real) / scale / x_0.numel())  # fmt: skip
    for (name, gradient), reference in zip(gradients.items(), expected, strict=True):
        torch.testing.assert_close(gradient, reference, rtol=1e-3, atol=1e-7, msg=name)


def test_flipping_the_sign_flips_the_gradient(few_steps: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above would fail with the sign that Eq. 9 has if its f are read as velocities."""

    def gradient() -> torch.Tensor:
        system = stage(few_steps, "stage.init_args.output_weight=0", "stage.init_args.feature_weight=0")
        fill(system.networks.for_width(0.5), CRITIC, 0)
        system.student_gradients(system.prepare(batch(), 4, 4, 0.5))
        return torch.cat([p.grad.flatten() for p in system.student_parameters() if p.grad is not None])

    right = gradient()
    straight = distribution_matching.matching_gradient
    monkeypatch.setattr(
        distribution_matching, "matching_gradient", lambda *a, **k: (-straight(*a, **k)[0], straight(*a, **k)[1])
    )
    torch.testing.assert_close(gradient(), -right)


def test_the_output_loss_uses_the_few_step_teacher(few_steps: list[str]) -> None:
    """L_out compares with the few-step teacher, not with the teacher, at the student's own input."""
    system = stage(few_steps, "stage.init_args.matching_weight=0", "stage.init_args.feature_weight=0")
    fill(system.teacher.network, "few_step", 3)
    inputs = system.prepare(batch(), 4, 4, 1.0)
    _, losses = system.student_gradients(inputs)
    with torch.no_grad():
        own = system.networks(inputs.x_t, inputs.time, inputs.text, 1.0)
        plain = system.teacher.predict(inputs.x_t, inputs.time, inputs.condition).velocity
        with system.teacher.few_step():
            few = system.teacher.predict(inputs.x_t, inputs.time, inputs.condition).velocity
    torch.testing.assert_close(losses["loss/output"], (own - few).square().mean(), rtol=1e-4, atol=1e-6)
    assert (few - plain).abs().max() > 1e-3


def test_gradients_are_the_same_with_gradient_checkpointing(few_steps: list[str]) -> None:
    """Forward passes that are recomputed in the backward pass must use their own adapter."""
    both = []
    for checkpointing in (False, True):
        system = stage(few_steps, f"training.gradient_checkpointing={checkpointing}")
        assert all(part.gradient_checkpointing == checkpointing for part in system.networks.for_width(0.5).stages)
        fill(system.networks.for_width(0.5), CRITIC, 0)
        inputs = system.prepare(batch(), 4, 4, 0.5)
        x_0, _ = system.student_gradients(inputs)
        system.critic_gradients(inputs, x_0.detach())
        parameters = [*system.student_parameters(), *system.critic_parameters()]
        both.append([p.grad for p in parameters if p.grad is not None])
    assert len(both[0]) == len(both[1]) > 0
    for plain, checkpointed in zip(*both, strict=True):
        torch.testing.assert_close(plain, checkpointed)


def test_roll_out_visits_every_step_of_the_students_times(few_steps: list[str]) -> None:
    system = stage(few_steps)
    seen = {round(float(system.prepare(batch(), i, i, 0.5).time[0]), 4) for i in range(40)}
    assert seen == {1.0, 0.9, 0.75, 0.5}


def test_data_as_input_is_noised_to_the_same_times(few_steps: list[str]) -> None:
    system = stage(few_steps, "stage.init_args.student_input=data")
    data = system.encoders.latents(batch())
    noise = torch.randn(data.shape, generator=generator("noise", system.seed, 3, 0))
    inputs = system.prepare(batch(), 3, 3, 0.5)
    t = float(inputs.time[0])
    assert round(t, 4) in (1.0, 0.9, 0.75, 0.5)
    torch.testing.assert_close(inputs.x_t, (1 - t) * data + t * noise)


def test_networks_share_the_memory_of_their_base(few_steps: list[str]) -> None:
    """Student, critic and EMA share the supernet's storage at all widths; the few-step teacher shares the teacher's."""
    system = stage(few_steps)
    widths = system.networks.spec.widths
    lora = sum(4 * p.numel() for w in widths for name in (STUDENT, CRITIC, EMA)
               for p in adapter_parameters(system.networks.for_width(w), name).values())  # fmt: skip
    supernet = storage_bytes(load_network(find(Path(runs_of(few_steps)), "elastic_pretrain/p")))
    assert storage_bytes(system.networks) == supernet + lora
    teacher = storage_bytes(load_network(find(Path(runs_of(few_steps)), "teacher/t")))
    few = sum(4 * p.numel() for p in adapter_parameters(system.teacher.network, "few_step").values())
    assert storage_bytes(system.teacher.network) == teacher + few < 1.5 * teacher


def runs_of(overrides: list[str]) -> str:
    return next(word.removeprefix("runs=") for word in overrides if word.startswith("runs="))


def test_saved_weights_are_the_base_and_the_ema_student(few_steps: list[str], family: Path) -> None:
    train("step_distill", *few_steps, "--name", "weights")
    folder = find(family / "runs", "step_distill/weights")
    loaded = load_network(folder)
    assert isinstance(loaded, PerWidthNetworks)
    experiment: Experiment = load(folder.config, [], Experiment).config
    system = build_stage(experiment, build_encoders(experiment))
    system.load_state_dict(torch.load(folder.checkpoint, weights_only=True)["state_dict"])
    inputs = stage(few_steps).prepare(batch(), 0, 0, 1.0)
    for width in (0.5, 1.0):
        with torch.no_grad(), system.ema_network() as network:
            expected = network(inputs.x_t, inputs.time, inputs.text, width)
        torch.testing.assert_close(loaded(inputs.x_t, inputs.time, inputs.text, width), expected, atol=1e-5, rtol=1e-4)
    parent = load_network(find(family / "runs", "elastic_pretrain/p"))
    for name, value in base_parameters(system.networks.for_width(1.0)).items():
        assert torch.equal(value, parent.state_dict()[name])


def test_plain_dmd_needs_no_few_step_teacher(few_steps: list[str], family: Path) -> None:
    """``teacher_few_step.yaml`` is plain DMD, and its LoRA becomes the few-step teacher's."""
    recorded = read_metrics(find(family / "runs", "teacher_few_step/f").metrics)
    assert "train/loss/matching" in recorded
    assert "train/loss/output" not in recorded


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["stage.init_args.teacher.init_args.few_step=null"], "need a few-step teacher"),
        (["parents.few_step=elastic_pretrain"], "started from None, not from the teacher"),
        (["parents.teacher=elastic_pretrain"], "started from teacher/t, not from the teacher elastic_pretrain/p"),
        (["stage.init_args.steps=0"], "must be at least 1"),
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
    few_steps: list[str], overrides: list[str], message: str, capsys: pytest.CaptureFixture
) -> None:
    assert main(["run", str(FILE), *few_steps, *overrides]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert error.count("\n") == 1


def test_samples_take_four_steps(
    few_steps: list[str], family: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    train("step_distill", *few_steps, "training.max_steps=1", "--name", "sampled")
    out = tmp_path / "four.png"
    overrides = ["sample", "step_distill/sampled", "a red circle", "--runs", str(family / "runs"), "--out", str(out)]
    assert main([*overrides, "--steps", "4"]) == 0
    assert out.stat().st_size > 1000
    assert "width 1: 1 images, 4 steps of euler" in capsys.readouterr().out
