"""Tests for adding the scores of an evaluation to the evaluated run in MLflow."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from evaluation.contract import Result, Score
from evaluation.run_scores import cost_columns, log_scores_of_run, run_columns
from evaluation.settings import Evaluation
from evaluation.subjects.run import Run
from pocketdit.artifacts import run_folder
from pocketdit.commands.main import main
from pocketdit.config.component import Component
from pocketdit.config.experiment import Tracking
from pocketdit.config.load import load
from tests.conftest import PRETRAIN

RESULTS = [
    Result("geneval (scene-rules)", {"overall": Score(0.5, 2), "counting": Score(0.25, 1)}, {}),
    Result("fd (x, y)", {"fd": Score(3.0, 10)}, {}),
    Result("dpg", {"overall": Score(math.nan, 0)}, {}),
]


def test_names_contain_only_characters_that_mlflow_keeps() -> None:
    assert run_columns(RESULTS, 0.375) == {
        "geneval scene-rules 0.375x": 0.5, "geneval scene-rules/counting 0.375x": 0.25, "fd x y 0.375x": 3.0
    }  # fmt: skip


def test_scores_are_added_to_the_run_but_not_while_it_is_being_trained(
    tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(PRETRAIN), *tiny, "training.max_steps=2", "--name", "a"]) == 0
    subject = Run("elastic_pretrain/a", 0.5, runs=tmp_path / "runs")
    component = Component("x")
    tracking = Tracking(uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    settings = Evaluation("e", component, {}, (component,), tracking=tracking)
    with run_folder.lock(subject.folder):
        log_scores_of_run(subject, RESULTS, settings)
    assert (
        "the scores were not added to the run in MLflow: elastic_pretrain/a is being trained" in capsys.readouterr().out
    )
    log_scores_of_run(subject, RESULTS, Evaluation("e", component, {}, (component,)))
    assert "elastic_pretrain/a is tracked at sqlite" in capsys.readouterr().out
    log_scores_of_run(subject, RESULTS, settings)
    log_scores_of_run(subject, [Result("geneval (scene-rules)", {"overall": Score(0.75, 2)}, {})], settings)
    assert capsys.readouterr().out == ""

    from pocketdit.tracking.mlflow_run import import_mlflow

    client = import_mlflow()(tracking.uri)
    experiment = client.get_experiment_by_name("pocketdit")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.metrics["geneval scene-rules 0.5x"] == 0.75, "the latest evaluation counts"
    assert run.data.metrics["geneval scene-rules/counting 0.5x"] == 0.25
    assert run.data.metrics["parameters M 0.5x"] == cost_columns(subject)["parameters M 0.5x"]
    assert run.info.status == "FINISHED"


def test_costs_are_those_of_the_width(tiny: list[str], tmp_path: Path) -> None:
    from pocketdit.config.experiment import Experiment
    from pocketdit.training.cost import parameters_by_width

    subject = object.__new__(Run)
    subject.experiment = load(PRETRAIN, tiny, Experiment).config
    subject.sampling, subject.width = subject.experiment.sampling, 0.5
    subject.folder = run_folder.RunFolder(tmp_path)
    costs = cost_columns(subject)
    count = parameters_by_width(subject.experiment.backbone)[0.5]
    assert costs["parameters M 0.5x"] == count / 1e6
    assert costs["size MB 0.5x"] == 2 * count / 1e6
    assert 0.01 < costs["predicted ms per step 0.5x"] < 10
    (tmp_path / "palettes.safetensors").write_bytes(b"x" * 5000)
    assert cost_columns(subject)["size MB 0.5x"] == 0.005


def test_a_network_without_a_mobile_form_has_no_predicted_latency(tiny: list[str], tmp_path: Path) -> None:
    from pocketdit.config.experiment import Experiment

    subject = object.__new__(Run)
    subject.experiment = load(PRETRAIN, tiny, Experiment).config
    subject.sampling = replace(subject.experiment.sampling, size=(136, 136))  # latents of 17x17, an odd size
    subject.width, subject.folder = 0.5, run_folder.RunFolder(tmp_path)
    assert set(cost_columns(subject)) == {"parameters M 0.5x", "size MB 0.5x"}
