"""Tests that hybrid sharding on two nodes takes the same steps as one process, and that its checkpoints can be resumed.

The job script starts two processes per node with a stand-in for srun. Every step uses the same eight samples: with four
processes, each takes one batch of two samples; with two, each takes two batches; a single process takes four.
"""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pocketdit.artifacts.run_folder import RunFolder, find
from pocketdit.running.checkpointing import AtomicCheckpointIO
from pocketdit.tracking.journal import read_metrics
from tests.cluster.jobs import job_variables, submit
from tests.conftest import PRETRAIN, ROOT, NewDatabase, tiny_overrides

STEPS, MORE = 20, 28
HYBRID = ("training.strategy=fsdp2", "training.sharding.group=2")


@pytest.fixture(scope="module")
def overrides(scenes: Path, tmp_path_factory: pytest.TempPathFactory, new_database: NewDatabase) -> list[str]:
    """The settings that all runs in this file share."""
    folder = tmp_path_factory.mktemp("hybrid")
    new_database(folder)
    return [
        *tiny_overrides(scenes, folder),
        "data.init_args.batch_size=2",
        "data.init_args.buckets=square",  # all batches are full, so that every process has the same number of samples
        "backbone.widths=[0.25, 0.5, 1.0]",
        "training.accelerator=cpu",
        "training.precision=32-true",
        "optimizer.class_path=torch.optim.AdamW",
        "optimizer.init_args={lr: 1e-3}",
        f"training.max_steps={STEPS}",
        "training.checkpoint_every=1000",
        "training.warmup_steps=0",
    ]


def four(overrides: list[str], name: str, *more: str) -> str:
    """Train on two nodes with two processes each, and return the output."""
    job = submit("srun.sbatch", [str(PRETRAIN), *overrides, *HYBRID, *more], job_variables(2, 2, name), ROOT)
    output, _ = job.communicate(timeout=400)
    assert job.returncode == 0, output
    return output


def train(overrides: list[str], *more: str, status: int = 0) -> str:
    """Train in processes that Lightning starts, and return the output."""
    command = [sys.executable, "-m", "pocketdit", "run", str(PRETRAIN), *overrides, *more]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400)
    assert result.returncode == status, result.stdout + result.stderr
    return result.stdout + result.stderr


def folder_of(overrides: list[str], name: str) -> RunFolder:
    runs = next(word for word in overrides if word.startswith("runs=")).removeprefix("runs=")
    return find(Path(runs), f"elastic_pretrain/{name}")


Curves = dict[str, list[tuple[int, float]]]


def curves(overrides: list[str], name: str, steps: range) -> Curves:
    """Return the training metrics of a run at the given steps."""
    logged = read_metrics(folder_of(overrides, name).metrics)
    found = {key: [(i, value) for i, value in logged[key] if i in steps] for key in logged if key.startswith("train/")}
    assert [step for step, _ in found["train/loss/width_1"]] == list(steps)
    return found


def largest_difference(first: Curves, second: Curves) -> float:
    """Return the largest relative difference between the metrics of two runs."""
    assert first.keys() == second.keys()
    assert all([i for i, _ in first[key]] == [i for i, _ in second[key]] for key in first)
    pairs = [(a, b) for key in first for (_, a), (_, b) in zip(first[key], second[key], strict=True)]
    return max(abs(a - b) / max(abs(a), 1e-12) for a, b in pairs)


@pytest.fixture(scope="module")
def trained(overrides: list[str]) -> list[str]:
    """Train for 20 steps on two nodes, and for 28 steps in one process."""
    four(overrides, "four")
    train(overrides, "training.accumulate=4", f"training.max_steps={MORE}", "--name", "one")
    return overrides


@pytest.mark.slow
def test_hybrid_sharding_takes_the_steps_of_one_process(trained: list[str]) -> None:
    hybrid = curves(trained, "four", range(STEPS))
    difference = largest_difference(curves(trained, "one", range(STEPS)), hybrid)
    print(f"largest relative difference over {STEPS} steps: {difference:.2e}")
    assert difference < 1e-5
    losses = [value for _, value in hybrid["train/loss/width_1"]]
    assert losses[-1] != pytest.approx(losses[0], rel=1e-2), "the network must have learned something"


@pytest.mark.slow
def test_the_checkpoint_resumes_on_one_and_on_two_processes(trained: list[str]) -> None:
    original = folder_of(trained, "four").path
    refused = train(trained, *HYBRID, "training.devices=2", "--resume", "elastic_pretrain/four", status=2)
    assert "training.nodes changed from 2 to 1" in refused
    assert "--allow-changes" in refused
    steps = range(STEPS, MORE)
    expected = curves(trained, "one", steps)
    for name, settings in {
        "two": (*HYBRID, "training.devices=2", "training.accumulate=2"),
        "one-sharded": ("training.strategy=fsdp2", "training.devices=1", "training.accumulate=4"),
        "one-plain": ("training.accumulate=4",),
    }.items():
        copy = original.with_name(name)
        subprocess.run(["cp", "-r", str(original), str(copy)], check=True)
        output = train(
            trained, *settings, f"training.max_steps={MORE}", "--allow-changes", "--resume", f"elastic_pretrain/{name}"
        )
        difference = largest_difference(expected, curves(trained, name, steps))
        print(f"{name}: largest relative difference over steps {STEPS} to {MORE - 1}: {difference:.2e}")
        assert difference < 1e-5
        assert "different samples" not in output
        weights = load_file(folder_of(trained, name).weights)
        for key, value in load_file(folder_of(trained, "one").weights).items():
            torch.testing.assert_close(weights[key], value, atol=1e-4, rtol=1e-3, msg=key)


@pytest.mark.slow
def test_the_consolidated_checkpoint_is_that_of_one_process_and_resumes_under_fsdp2(trained: list[str]) -> None:
    """The resumed run writes its checkpoint as a single file, which replaces the consolidated checkpoint."""
    original = folder_of(trained, "four").path
    copy = original.with_name("full")
    subprocess.run(["cp", "-r", str(original), str(copy)], check=True)
    command = [sys.executable, "-m", "pocketdit", "consolidate", str(copy)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    run, one = folder_of(trained, "full"), folder_of(trained, "one")
    assert result.stdout == f"{run.name}: checkpoint of step {STEPS} in {run.checkpoint}\n", result.stderr
    settings = ("training.strategy=fsdp2", "training.sharding.group=1", "training.sharding.checkpoint=full",
                "training.devices=2", "training.accumulate=2", f"training.max_steps={MORE}")  # fmt: skip
    train(trained, *settings, "--allow-changes", "--resume", run.name)
    steps = range(STEPS, MORE)
    assert largest_difference(curves(trained, "one", steps), curves(trained, "full", steps)) < 1e-5
    full, expected = (AtomicCheckpointIO().load_checkpoint(folder.checkpoint) for folder in (run, one))
    assert run.checkpoint.is_file()
    assert full.keys() == expected.keys()
    assert full["state_dict"].keys() == expected["state_dict"].keys()
    for name, value in expected["state_dict"].items():
        torch.testing.assert_close(full["state_dict"][name], value, atol=1e-4, rtol=1e-3, msg=name)
    (state,), (other,) = full["optimizer_states"], expected["optimizer_states"]
    assert [group["params"] for group in state["param_groups"]] == [group["params"] for group in other["param_groups"]]
    for number, values in other["state"].items():
        torch.testing.assert_close(state["state"][number]["exp_avg"], values["exp_avg"], atol=1e-5, rtol=1e-2)


@pytest.mark.slow
def test_bf16_in_transit_changes_the_losses_only_by_rounding(overrides: list[str]) -> None:
    bf16 = ("training.strategy=fsdp2", "training.devices=2", "training.precision=bf16-mixed", "training.max_steps=5")
    train(overrides, *bf16, "--name", "fp32-transit")
    in_transit = ("training.sharding.weights=bfloat16", "training.sharding.gradients=bfloat16")
    train(overrides, *bf16, *in_transit, "--name", "bf16-transit")
    first, second = (curves(overrides, name, range(5)) for name in ("fp32-transit", "bf16-transit"))
    difference = largest_difference(
        {"train/loss/width_1": first["train/loss/width_1"]}, {"train/loss/width_1": second["train/loss/width_1"]}
    )
    print(f"bf16 in transit: largest relative difference of the loss: {difference:.2e}")
    assert 0 < difference < 0.02
    stored = load_file(folder_of(overrides, "bf16-transit").weights)
    assert {value.dtype for value in stored.values()} == {torch.float32}
