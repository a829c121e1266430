"""Tests for steps that accumulate several batches: logged means, and resuming with a different number of batches."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pocketdit.artifacts.run_folder import find
from pocketdit.commands.main import main
from pocketdit.running.accumulation import StepMeans
from pocketdit.tracking.journal import read_metrics
from tests.conftest import PRETRAIN


def batch_end(means: StepMeans, steps: int, values: dict[str, float], size: int, automatic: bool = False) -> None:
    outputs = {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}
    trainer: Any = SimpleNamespace(global_step=steps, accumulate_grad_batches=2)
    module: Any = SimpleNamespace(automatic_optimization=automatic)
    means.on_train_batch_end(trainer, module, outputs, {"captions": ["x"] * size}, 0)


def test_outputs_are_averaged_over_the_samples_of_a_step() -> None:
    means = StepMeans()
    batch_end(means, 0, {"loss/a": 1.0, "loss/b": 7.0}, 4)
    assert means.last == {}
    batch_end(means, 1, {"loss/a": 4.0, "loss/c": 0.1, "gradient_norm": 2.0}, 2)
    assert means.last == {"loss/a": 2.0, "loss/b": 7.0, "loss/c": 0.1, "gradient_norm": 2.0}
    batch_end(means, 2, {"loss/a": 0.1}, 3)
    assert means.last == {"loss/a": 0.1}


def test_the_loss_that_lightning_divides_is_logged_in_full() -> None:
    means = StepMeans()
    batch_end(means, 0, {"loss": 1.5, "other": 1.0}, 4, automatic=True)
    batch_end(means, 1, {"loss": 2.5, "other": 3.0}, 4, automatic=True)
    assert means.last == {"loss": 4.0, "other": 2.0}


def curves(tmp_path: Path) -> dict[str, list[tuple[int, float]]]:
    return read_metrics(find(tmp_path / "runs", "elastic_pretrain").metrics)


def test_a_run_can_be_resumed_with_another_number_of_batches_per_step(tiny: list[str], tmp_path: Path) -> None:
    """No step is missing or logged twice, whether the resumed run has more or fewer batches per step.

    Step 3 is logged after the last checkpoint and before the interruption, so the resumed run replaces its metrics.
    """
    arguments = ["run", str(PRETRAIN), *tiny, "training.validate_every=1", "training.checkpoint_every=3"]
    assert main([*arguments, "training.accumulate=2", "training.max_steps=3"]) == 0
    folder = find(tmp_path / "runs", "elastic_pretrain")
    checkpoint = folder.checkpoint.read_bytes()
    assert main([*arguments, "training.accumulate=2", "training.max_steps=4", "--resume"]) == 0
    before = curves(tmp_path)["train/loss/width_1"]
    folder.checkpoint.write_bytes(checkpoint)
    assert main([*arguments, "training.accumulate=4", "training.max_steps=5", "--resume", "--allow-changes"]) == 0
    assert main([*arguments, "training.accumulate=1", "training.max_steps=8", "--resume", "--allow-changes"]) == 0
    logged = curves(tmp_path)
    for name in ("train/loss/width_1", "train/gradient_norm", "validation/loss/width_1"):
        assert [step for step, _ in logged[name]] == list(range(8)), name
    assert logged["train/loss/width_1"][:3] == before[:3]
    assert logged["train/loss/width_1"][3] != before[3]
    state = torch.load(folder.checkpoint, weights_only=True)["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]
    assert state["ready"] == 8


def test_the_logged_loss_is_the_mean_of_a_step(tiny: list[str], tmp_path: Path) -> None:
    """With constant weights, the loss of a step is the mean of its batches' losses, weighted by the batch sizes."""
    frozen = [
        *tiny,
        "backbone.widths=[1.0]",
        "optimizer.class_path=torch.optim.AdamW",
        "optimizer.init_args={lr: 1e-30}",
    ]
    arguments = ["run", str(PRETRAIN), *frozen]
    assert main([*arguments, "training.max_steps=4"]) == 0
    single = [value for _, value in curves(tmp_path)["train/loss/width_1"]]
    assert main([*arguments, "training.max_steps=2", "training.accumulate=2", "--name", "two"]) == 0
    double = [value for _, value in curves(tmp_path)["train/loss/width_1"]]
    sizes = [4, 1, 4, 4]
    expected = [(sizes[i] * single[i] + sizes[i + 1] * single[i + 1]) / (sizes[i] + sizes[i + 1]) for i in (0, 2)]
    assert double == pytest.approx(expected, rel=1e-6)
