"""Tests for run folders that are deleted or lose files during a run, and for the end of a run."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback

from pocketdit.artifacts.run_folder import RunFolder, find
from pocketdit.commands.main import main
from pocketdit.config.experiment import Experiment
from pocketdit.config.load import load
from pocketdit.errors import RunError
from pocketdit.running.fit import run
from tests.conftest import PRETRAIN


class AtStepTwo(Callback):
    """A callback that calls a function after the second step."""

    def __init__(self, function: Callable[[], object]) -> None:
        self.function = function

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == 2:
            self.function()


def train(tiny: list[str], function: Callable[[], object]) -> None:
    run(load(PRETRAIN, tiny, Experiment), None, "x", False, [AtStepTwo(function)])


def test_a_run_whose_folder_is_deleted_stops(tiny: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "elastic_pretrain" / "x"
    with pytest.raises(RunError, match=r"elastic_pretrain/x was deleted or replaced .*step [23]"):
        train(tiny, lambda: shutil.rmtree(folder))
    assert not folder.exists()


def test_a_run_whose_folder_is_replaced_leaves_the_new_folder_alone(tiny: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "elastic_pretrain" / "x"

    def replace() -> None:
        folder.rename(folder.with_name("moved"))
        folder.mkdir()
        (folder / "config.yaml").write_text("experiment: other\n")

    with pytest.raises(RunError, match="was deleted or replaced"):
        train(tiny, replace)
    assert [path.name for path in folder.iterdir()] == ["config.yaml"]
    assert (folder.with_name("moved") / "metrics.jsonl").is_file()


def test_starting_again_without_a_checkpoint_keeps_the_earlier_results(
    tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["run", str(PRETRAIN), *tiny]
    assert main([*arguments, "training.max_steps=2", "--name", "x"]) == 0
    folder = find(tmp_path / "runs", "elastic_pretrain/x")
    for attempt in (1, 2):
        weights = folder.weights.read_bytes()
        folder.checkpoint.unlink()
        capsys.readouterr()
        assert main([*arguments, f"training.max_steps={2 + attempt}", "--resume"]) == 0
        kept = folder.path / f"earlier-{attempt}"
        assert (kept / "weights.safetensors").read_bytes() == weights != folder.weights.read_bytes()
        assert (kept / "finished").read_text() == f"{1 + attempt}\n"
        out = capsys.readouterr().out
        assert "has no checkpoint; it starts again at step 0" in out
        assert str(kept) in out


def test_a_finished_run_restores_lost_weights_from_its_checkpoint(tiny: list[str], tmp_path: Path) -> None:
    arguments = ["run", str(PRETRAIN), *tiny, "training.max_steps=2", "--resume"]
    assert main(arguments) == 0
    folder = find(tmp_path / "runs", "elastic_pretrain")
    weights, checkpoint = folder.weights.read_bytes(), folder.checkpoint.read_bytes()
    folder.weights.unlink()
    assert main(arguments) == 0
    assert folder.weights.read_bytes() == weights
    assert folder.checkpoint.read_bytes() == checkpoint
    assert folder.finished_steps() == 2


def test_a_run_that_is_past_the_last_step_is_not_finished_again(
    tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["run", str(PRETRAIN), *tiny]
    assert main([*arguments, "training.max_steps=4"]) == 0
    folder = find(tmp_path / "runs", "elastic_pretrain")
    folder.finished.unlink()
    config = folder.config.read_bytes()
    assert main([*arguments, "training.max_steps=3", "--resume"]) == 2
    assert "training.max_steps is 3, but" in (error := capsys.readouterr().err)
    assert "is already at step 4" in error
    assert not folder.finished.exists()
    assert folder.config.read_bytes() == config
    assert main([*arguments, "training.max_steps=4", "--resume"]) == 0
    assert folder.finished.read_text() == "4\n"


def test_resume_with_a_name_resumes_the_run_of_that_name(
    tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs" / "elastic_pretrain"
    arguments = ["run", str(PRETRAIN), *tiny, "training.max_steps=1"]
    assert main([*arguments, "--resume", "--name", "x"]) == 0
    assert main([*arguments, "--resume", "--name", "y"]) == 0
    more = ["run", str(PRETRAIN), *tiny, "training.max_steps=2", "--resume"]
    assert main([*more, "--name", "x"]) == 0
    assert [RunFolder(runs / name).finished_steps() for name in ("x", "y")] == [2, 1]
    assert main([*more, "elastic_pretrain/y", "--name", "z"]) == 2
    assert "--name z: " in capsys.readouterr().err
    assert not (runs / "z").exists()
    assert RunFolder(runs / "y").finished_steps() == 1


def test_the_report_of_a_resumed_run_has_relative_paths(
    tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["run", str(PRETRAIN), *tiny, "runs=runs", "training.sample_every=1"]
    assert main([*arguments, "training.max_steps=1", "--name", "x"]) == 0
    first = capsys.readouterr().out
    assert main([*arguments, "training.max_steps=2", "--resume"]) == 0
    for out in (first, capsys.readouterr().out):
        assert "  weights  runs/elastic_pretrain/x/weights.safetensors" in out
        assert "  samples  runs/elastic_pretrain/x/samples/step-" in out


@pytest.mark.parametrize("uri", ["x#y", "runs", "ftp://host", "sqlite://"])
def test_an_invalid_tracking_uri_leaves_no_folder(tiny: list[str], tmp_path: Path, uri: str) -> None:
    assert main(["run", str(PRETRAIN), *tiny, f"tracking.uri='{uri}'"]) == 2
    assert not (tmp_path / "runs").exists()


def test_a_trainer_that_cannot_be_built_leaves_no_folder(tiny: list[str], tmp_path: Path) -> None:
    assert main(["run", str(PRETRAIN), *tiny, "training.max_steps=1", "--name", "first"]) == 0
    assert main(["run", str(PRETRAIN), *tiny, "tracking.uri=nothing", "--name", "second"]) == 2
    assert find(tmp_path / "runs", "elastic_pretrain").path.name == "first"
    assert not (tmp_path / "runs" / "elastic_pretrain" / "second").exists()


def test_unsent_events_are_reported_once(tiny: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """No server listens on port 9. Lightning closes the logger before the run sends its weights, which also fails."""
    assert main(["run", str(PRETRAIN), *tiny, "training.max_steps=1", "tracking.uri=http://127.0.0.1:9"]) == 0
    assert capsys.readouterr().err.count("events were not sent") == 1


@pytest.mark.parametrize("name", ["metrics.jsonl", "lock", "weights.safetensors", "samples", "checkpoints/last.ckpt"])
def test_a_resumed_run_does_not_write_through_a_link_that_leads_out_of_its_folder(
    name: str, tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    for file in ("text", ".draft.tmp"):
        (mine / file).write_text("a line\nan unfinished line")
    folder = RunFolder(tmp_path / "runs" / "elastic_pretrain" / "x")
    (folder.path / name).parent.mkdir(parents=True)
    folder.config.write_text(load(PRETRAIN, tiny, Experiment).to_yaml())
    (folder.path / name).symlink_to(mine if name == "samples" else mine / "text")
    assert main(["run", str(PRETRAIN), *tiny, "--resume", "--name", "x"]) == 1
    error = capsys.readouterr().err
    assert f"{folder.path / name} is a link to {mine}" in error
    assert error.count("\n") == 1
    assert {path.name: path.read_text() for path in mine.iterdir()} == {
        file: "a line\nan unfinished line" for file in ("text", ".draft.tmp")
    }


def test_links_within_a_run_folder_and_to_it_are_accepted(tiny: list[str], tmp_path: Path) -> None:
    arguments = ["run", str(PRETRAIN), *tiny, "--name", "x"]
    assert main([*arguments, "training.max_steps=2"]) == 0
    folder = RunFolder(tmp_path / "runs" / "elastic_pretrain" / "x")
    (folder.path / "checkpoints").rename(folder.path / "saved")
    (folder.path / "checkpoints").symlink_to("saved")
    folder.path.rename(tmp_path / "elsewhere")
    folder.path.symlink_to(tmp_path / "elsewhere")
    assert main([*arguments, "training.max_steps=3", "--resume"]) == 0
    assert folder.finished_steps() == 3
