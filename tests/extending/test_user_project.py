"""Tests that a user's data module, stage and metric work in the user's project folder, as CONTRIBUTING describes."""

from pathlib import Path

import pytest
from safetensors.torch import load_file

from pocketdit.tracking.journal import read_metrics
from tests.extending.conftest import Program


@pytest.fixture(scope="module")
def output(program: Program) -> str:
    """The output of commands that train, sample, evaluate, and plan, and that train and resume a second run."""
    return program(
        "run run.yaml --name a",
        "sample mine 'a red image' --out grid.png",
        "evaluate score.yaml",
        "run run.yaml --plan",
        "run run.yaml --name b training.max_steps=4",
        "run run.yaml training.max_steps=7 --resume mine/b",
    )


def test_own_data_stage_and_metric_work_together(project: Path, output: str) -> None:
    run = project / "runs" / "mine" / "a"
    assert "finished mine/a" in output
    assert "embed.weight" in load_file(run / "weights.safetensors")
    losses = read_metrics(run / "metrics.jsonl")["train/loss"]
    # Ten samples make three batches per epoch. Lightning takes one step for the first two and another for the third.
    assert [step for step, _ in losses] == list(range(7))
    assert (project / "grid.png").stat().st_size > 500
    assert "redness" in output
    assert list((project / "evaluations" / "mine").rglob("report.html"))
    assert "M parameters" in output, "--plan must count parameters if the stage has no cost estimate"


def test_plain_data_module_resumes_with_a_note(project: Path, output: str) -> None:
    assert "note: ColorData does not save its position" in output
    losses = read_metrics(project / "runs" / "mine" / "b" / "metrics.jsonl")["train/loss"]
    assert [step for step, _ in losses] == list(range(7))


@pytest.mark.slow
def test_built_in_stage_trains_on_a_plain_data_module(project: Path, program: Program) -> None:
    """Random draws must differ between epochs, although the data loader's batch index starts again at 0."""
    output = program(
        "run run.yaml --name c training.validate_every=3 training.accumulate=1 "
        "'stage={class_path: pocketdit.stages.elastic_pretrain.ElasticPretrain}'"
    )
    assert "finished mine/c" in output
    recorded = read_metrics(project / "runs" / "mine" / "c" / "metrics.jsonl")
    losses = recorded["train/loss/width_1"]
    assert [step for step, _ in losses] == list(range(7))
    assert len({value for _, value in losses}) == 7
    assert [step for step, _ in recorded["validation/loss/width_1"]] == [2, 5]
