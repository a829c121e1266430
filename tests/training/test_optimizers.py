"""Tests that optimizers work as documented: steps, resumed runs, strategies, and refused combinations."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from pocketdit.artifacts.run_folder import RunFolder, find
from pocketdit.artifacts.weights import load_weights
from pocketdit.commands.main import main
from pocketdit.config.experiment import Experiment
from pocketdit.config.load import load
from pocketdit.config.optimizers import FSDP2, LORA, SCHEDULE_FREE, TESTED, OptimizerSupport, support_table
from pocketdit.errors import ConfigError
from pocketdit.tracking.journal import read_metrics
from pocketdit.training.schedule_free import copy_averaged, is_schedule_free
from tests.conftest import PRETRAIN, ROOT

SETTINGS = {
    "torch.optim.AdamW": "{lr: 1e-3, fused: true}",
    SCHEDULE_FREE: "{lr: 1e-3, betas: [0.9, 0.99]}",
    "bitsandbytes.optim.AdamW8bit": "{lr: 1e-3}",
}
by_name = pytest.mark.parametrize("support", TESTED, ids=lambda support: support.name)


def optimizer(support: OptimizerSupport) -> list[str]:
    """Return overrides that select an optimizer, or skip the test if its package is not installed."""
    if support.package:
        pytest.importorskip(support.package, reason=f"{support.package} is not installed")
    settings = SETTINGS.get(support.class_path, "{}")
    return [f"optimizer.class_path={support.class_path}", f"optimizer.init_args={settings}"]


def run(tiny: list[str], tmp_path: Path, name: str, *more: str) -> RunFolder:
    option = ["--resume", f"elastic_pretrain/{name}"] if (tmp_path / "runs/elastic_pretrain" / name).exists() else []
    assert main(["run", str(PRETRAIN), *tiny, *more, *(option or ["--name", name])]) == 0
    return find(tmp_path / "runs", f"elastic_pretrain/{name}")


def test_the_documentation_has_the_table_of_the_checks() -> None:
    assert support_table() in (ROOT / "docs" / "training.md").read_text()


@by_name
def test_a_resumed_run_is_bit_identical(support: OptimizerSupport, tiny: list[str], tmp_path: Path) -> None:
    words = [*tiny, *optimizer(support)]
    expected = run(words, tmp_path, "whole", "training.max_steps=4")
    run(words, tmp_path, "parts", "training.max_steps=2")
    resumed = run(words, tmp_path, "parts", "training.max_steps=4")
    assert resumed.weights.read_bytes() == expected.weights.read_bytes()
    losses = [read_metrics(folder.metrics)["train/loss/width_1"] for folder in (resumed, expected)]
    assert losses[0] == losses[1]


@by_name
def test_the_plan_counts_the_state(
    support: OptimizerSupport, tiny: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(PRETRAIN), *tiny, *optimizer(support), "--plan"]) == 0
    assert "optimizer state" in capsys.readouterr().out


@pytest.mark.slow
@by_name
@pytest.mark.parametrize("strategy", ["ddp", FSDP2])
def test_strategies(support: OptimizerSupport, strategy: str, tiny: list[str], tmp_path: Path) -> None:
    """Either training in two processes yields finite weights, or the combination is refused by name."""
    words = [*tiny, *optimizer(support), "training.precision=32-true", "training.max_steps=3"]
    command = [sys.executable, "-m", "pocketdit", "run", str(PRETRAIN), *words, "training.accelerator=cpu",
               "training.devices=2", f"training.strategy={strategy}", "--name", "two"]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=250)
    if support.reason(strategy):
        assert done.returncode == 2
        assert f"{support.name} does not support" in done.stderr
        assert not (tmp_path / "runs").exists()
        return
    assert done.returncode == 0, done.stdout + done.stderr
    weights = load_weights(find(tmp_path / "runs", "elastic_pretrain/two").weights)
    assert all(value.isfinite().all() for value in weights.values())


@by_name
@pytest.mark.parametrize("feature", [FSDP2, LORA])
def test_pairs_that_do_not_work_are_refused_by_name(support: OptimizerSupport, feature: str) -> None:
    words = optimizer(support)
    file = ROOT / "experiments" / "finetune_lora.yaml" if feature == LORA else PRETRAIN
    words += ["training.decay=constant", *(["training.strategy=fsdp2"] if feature == FSDP2 else [])]
    if reason := support.reason(feature):
        with pytest.raises(ConfigError, match=f"optimizer: {support.name} does not support .*{reason}"):
            load(file, words, Experiment)
    else:
        load(file, words, Experiment)


def test_torchao_is_refused_by_name() -> None:
    """The optimizers of torchao would fail at the first step, because schedules do not set the rate to a tensor."""
    words = ["optimizer.class_path=torchao.optim.AdamW8bit", "optimizer.init_args={lr: 1e-3}"]
    message = r"torchao\.optim\.AdamW8bit does not work with a .*schedule; .* use bitsandbytes\.optim\.AdamW8bit"
    with pytest.raises(ConfigError, match=message):
        load(PRETRAIN, words, Experiment)


def test_a_schedule_free_optimizer_is_refused_where_its_average_or_rate_would_be_wrong() -> None:
    pytest.importorskip("schedulefree")
    words = [f"optimizer.class_path={SCHEDULE_FREE}", "optimizer.init_args={}"]
    with pytest.raises(ConfigError, match=r"training\.decay: must be constant with AdamWScheduleFree"):
        load(PRETRAIN, words, Experiment)
    with pytest.raises(ConfigError, match="AdamWScheduleFree does not support this stage"):
        load(ROOT / "experiments" / "step_distill.yaml", [*words, "training.decay=constant"], Experiment)


def schedule_free_steps() -> tuple[nn.Linear, torch.optim.Optimizer]:
    """Train a layer for five steps in which the bias never has a gradient, and return the layer and optimizer."""
    schedulefree = pytest.importorskip("schedulefree")
    torch.manual_seed(0)
    layer = nn.Linear(4, 3)
    free: torch.optim.Optimizer = schedulefree.AdamWScheduleFree(layer.parameters(), lr=0.1, betas=(0.8, 0.99))
    free.train()  # type: ignore[attr-defined]
    for _ in range(5):
        layer.weight.grad = torch.randn(3, 4)
        free.step()
    return layer, free


def test_averaged_weights_are_those_of_the_library() -> None:
    layer, free = schedule_free_steps()
    before, ema = layer.weight.clone(), [torch.zeros(3, 4), torch.zeros(3)]
    copy_averaged(free, ema, list(layer.parameters()))
    assert is_schedule_free(free)
    assert torch.equal(layer.weight, before)
    free.eval()  # type: ignore[attr-defined]
    assert not torch.equal(layer.weight, before)
    assert torch.equal(ema[0], layer.weight)
    assert torch.equal(ema[1], layer.bias)


def test_a_run_saves_and_validates_the_averaged_weights(tiny: list[str], tmp_path: Path) -> None:
    """The checkpoint has the trained weights y and the iterate z. The run saves x = y + (1 - 1 / beta) (z - y)."""
    support = next(support for support in TESTED if support.class_path == SCHEDULE_FREE)
    folder = run([*tiny, *optimizer(support)], tmp_path, "free", "training.max_steps=4", "training.validate_every=4")
    checkpoint = torch.load(folder.checkpoint, weights_only=True)
    (state,) = checkpoint["optimizer_states"]
    assert state["param_groups"][0]["train_mode"]
    names = state["param_groups"][0]["param_names"]
    weights, changed = load_weights(folder.weights), 0
    for index, name in zip(state["param_groups"][0]["params"], names, strict=True):
        y = checkpoint["state_dict"][f"backbone.{name}"]
        z = state["state"].get(index, {}).get("z", y)
        torch.testing.assert_close(weights[name], torch.lerp(y, z, 1 - 1 / 0.9))
        changed += not torch.equal(weights[name], y)
    assert changed > len(names) // 2
    assert "validation/loss/width_1" in read_metrics(folder.metrics)
