"""Tests that a killed distillation run resumes bit for bit, and that FSDP2 takes the same steps as DDP."""

import random
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from pocketdit.artifacts.run_folder import find
from pocketdit.tracking.journal import read_metrics
from tests.conftest import ROOT
from tests.running.test_resume import kill_after, start, train_losses
from tests.stages.conftest import train

LOSS = {"knowledge_distill": "train/loss/width_1", "step_distill": "train/loss/critic"}


# A test takes half a minute with either experiment.
@pytest.fixture(params=["knowledge_distill", "step_distill"])
def distillation(request: pytest.FixtureRequest) -> tuple[str, list[str]]:
    """Return the name of an experiment and overrides that shorten it to a run of a few seconds."""
    fixture = {"knowledge_distill": "knowledge_overrides", "step_distill": "step_overrides"}[request.param]
    return request.param, request.getfixturevalue(fixture)


@pytest.mark.slow
def test_killed_distillation_resumes_bit_for_bit(
    distillation: tuple[str, list[str]], family: Path, tmp_path: Path
) -> None:
    """Checkpoints are saved every four steps, but the student is updated only in every fifth step."""
    name, overrides = distillation
    file, runs = ROOT / "experiments" / f"{name}.yaml", family / "runs"
    arguments = [*overrides, "data.init_args.workers=1", "training.max_steps=24", "training.checkpoint_every=4"]
    train(name, *arguments, "--name", "uninterrupted")
    killed = start([*arguments, "--name", "killed"], tmp_path / "killed.log", file)
    kill_after(killed, runs / name / "killed", random.randint(5, 18), LOSS[name])
    folder = find(runs, f"{name}/killed")
    assert folder.checkpoint.is_file()
    assert not folder.finished.exists()
    train(name, *arguments, "--resume", f"{name}/killed")
    expected = find(runs, f"{name}/uninterrupted")
    assert train_losses(folder.path) == train_losses(expected.path)
    assert len(train_losses(folder.path)[LOSS[name]]) >= 24
    assert folder.weights.read_bytes() == expected.weights.read_bytes()


def distill(name: str, overrides: list[str], run: str, strategy: str, *more: str) -> None:
    """Run an experiment with two CPU processes."""
    command = [sys.executable, "-m", "pocketdit", "run", str(ROOT / "experiments" / f"{name}.yaml"), *overrides,
               "training.accelerator=cpu", "training.devices=2", f"training.strategy={strategy}",
               "optimizer.class_path=torch.optim.AdamW", "optimizer.init_args={lr: 1e-3, betas: [0.0, 0.99]}",
               *(more if "--resume" in more else (*more, "--name", run))]  # fmt: skip
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=250)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.slow
def test_fsdp2_equals_ddp_with_student_critic_and_teacher_sharded(
    distillation: tuple[str, list[str]], family: Path
) -> None:
    name, overrides = distillation
    overrides = [*overrides, "training.sample_every=6"]
    distill(name, overrides, "ddp", "ddp", "training.max_steps=12")
    distill(name, overrides, "fsdp2", "fsdp2", "training.max_steps=6")
    distill(name, overrides, "fsdp2", "fsdp2", "training.max_steps=12", "--resume", f"{name}/fsdp2")
    runs = family / "runs"
    ddp, fsdp2 = (read_metrics(find(runs, f"{name}/{run}").metrics) for run in ("ddp", "fsdp2"))
    assert set(ddp) == set(fsdp2)
    first, second = (load_file(find(runs, f"{name}/{run}").weights) for run in ("ddp", "fsdp2"))
    assert set(first) == set(second)
    # Compare all weights as one vector. If a gradient is only a rounding error (as for the bias of a key), Adam still
    # takes a full step, so individual weights may differ.
    distance = sum((second[key] - value).square().sum() for key, value in first.items()).sqrt()
    size = sum(value.square().sum() for value in first.values()).sqrt()
    assert distance < 1e-3 * size
    for key in ddp:
        if key.startswith("train/"):
            assert [v for _, v in fsdp2[key]] == pytest.approx([v for _, v in ddp[key]], rel=2e-3, abs=1e-5), key
