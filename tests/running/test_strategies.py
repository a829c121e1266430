"""Tests that FSDP2 takes the same steps as DDP on two CPU processes, with validation and previews in between."""

import subprocess
import sys
from pathlib import Path

import pytest

from pocketdit.artifacts.run_folder import find
from pocketdit.tracking.journal import read_metrics
from tests.conftest import PRETRAIN, ROOT


def train(tiny: list[str], tmp_path: Path, name: str, *more: str) -> dict[str, list[tuple[int, float]]]:
    # In bf16, a different order of summation would change the fourth digit within a few steps.
    more = ("training.precision=32-true", "training.validate_every=2", "training.sample_every=2", *more)
    command = [sys.executable, "-m", "pocketdit", "run", str(PRETRAIN), *tiny, "training.accelerator=cpu",
             "optimizer.class_path=torch.optim.AdamW", "optimizer.init_args={lr: 1e-3}", *more]  # fmt: skip
    if "--resume" not in more:
        command += ["--name", name]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=250)
    assert result.returncode == 0, result.stdout + result.stderr
    return read_metrics(find(tmp_path / "runs", f"elastic_pretrain/{name}").metrics)


DDP = ("training.devices=2", "training.strategy=ddp")
FSDP2 = ("training.devices=2", "training.strategy=fsdp2")


def test_fsdp2_takes_the_same_steps_as_ddp(tiny: list[str], tmp_path: Path) -> None:
    ddp = train(tiny, tmp_path, "ddp", *DDP, "training.max_steps=4")
    sharded = train(tiny, tmp_path, "fsdp2", *FSDP2, "training.max_steps=4")
    for name in ("train/loss/width_1", "train/gradient_norm", "train/gradient_scale"):
        assert [v for _, v in sharded[name]] == pytest.approx([v for _, v in ddp[name]], rel=1e-4), name


@pytest.mark.slow
def test_fsdp2_resumes_from_its_checkpoint(tiny: list[str], tmp_path: Path) -> None:
    ddp = train(tiny, tmp_path, "ddp", *DDP)
    train(tiny, tmp_path, "fsdp2", *FSDP2, "training.max_steps=4")
    resumed = train(tiny, tmp_path, "fsdp2", *FSDP2, "--resume", "elastic_pretrain/fsdp2")
    losses = "train/loss/width_1"
    assert [v for _, v in resumed[losses]] == pytest.approx([v for _, v in ddp[losses]], rel=1e-4)


def test_initialized_state_does_not_change_the_steps() -> None:
    import torch

    from pocketdit.training.sharding import init_state

    def trained(initialize: bool) -> torch.Tensor:
        weight = torch.nn.Parameter(torch.ones(3))
        optimizer = torch.optim.AdamW([weight], lr=0.1, betas=(0.5, 0.9), weight_decay=0.1)
        if initialize:
            init_state(optimizer)
            assert torch.equal(weight, torch.ones(3))
            assert weight.grad is None
            assert optimizer.state[weight]["step"] == 0
        for _ in range(2):
            weight.grad = torch.tensor([1.0, -2.0, 0.5])
            optimizer.step()
        return weight.detach()

    assert torch.equal(trained(True), trained(False))
