"""Tests that the experiment that is written for a trial has the trial's configuration."""

from dataclasses import replace
from pathlib import Path

import pytest

from pocketdit.backbones.spec import AdaptiveSparseAttention
from pocketdit.config.experiment import Experiment
from pocketdit.config.load import load
from pocketdit.errors import ConfigError, RunError
from sweeps.overrides import load_experiment
from sweeps.settings import Sweep
from sweeps.storage.store import Store
from sweeps.winner.winner import knee, write_winner

FILE = Path("sweeps/hand.yaml")


def test_winner_has_the_configuration_of_the_trial_and_its_own_name(sweep: Sweep, store: Store, tmp_path: Path) -> None:
    to = tmp_path / "winner.yaml"
    assert write_winner(FILE, sweep, store, 4, to).number == 4
    (record,) = (r for r in store.records(promoted=False) if r.number == 4)
    trial = load_experiment(sweep.base, record.attrs["overrides"])
    written = load(to, [], Experiment)
    assert written.resolved == trial.resolved | {"experiment": "winner", "runs": "runs"}
    level = written.config.dit.levels[0].attention
    assert isinstance(level, AdaptiveSparseAttention)
    assert level.blocks == 2


def test_opening_comment_describes_the_trial(sweep: Sweep, store: Store, tmp_path: Path) -> None:
    to = tmp_path / "winner.yaml"
    assert write_winner(FILE, sweep, store, 1, to).number == 1
    text = to.read_text()
    head = " ".join(line.removeprefix("# ") for line in text[: text.index("\nexperiment:")].splitlines())
    assert head.startswith("Trial 1 of the study hand (sweeps/hand.yaml) over")
    assert "attention assa, blocks 4." in head
    assert "on the front with trials 2." in head
    assert f"lightning run {to}" in head
    assert "Cost: 200 steps" in head
    assert "validation_loss 0.43 ± 0.014142, arithmetic 1.2 GFLOP (mean of seeds 0, 1)" in head
    assert load(to, [], Experiment).config.training.max_steps == 200


def test_default_winner_is_the_knee_of_the_front(sweep: Sweep, tmp_path: Path, store: Store) -> None:
    assert write_winner(FILE, sweep, store, None, tmp_path / "winner.yaml").number in (1, 2)
    points = [(0.50, 1.9), (0.52, 1.2), (0.60, 1.0)]
    assert knee(points, ("minimize", "minimize")) == 1
    assert knee([(0.1, 9.0), (0.9, 8.0), (1.0, 1.0)], ("maximize", "maximize")) == 1
    assert knee([(3.0,), (2.0,)], ("minimize",)) == 1


def test_password_of_the_storage_is_not_written(sweep: Sweep, store: Store, tmp_path: Path) -> None:
    secret = replace(sweep, storage="postgresql+psycopg2://me:hunter2@db/x")
    write_winner(FILE, secret, store, 0, tmp_path / "winner.yaml")
    assert "hunter2" not in (tmp_path / "winner.yaml").read_text()


@pytest.mark.parametrize("number", [3, 17])
def test_trial_that_is_not_complete_is_rejected(sweep: Sweep, store: Store, tmp_path: Path, number: int) -> None:
    with pytest.raises(RunError, match=f"does not have a complete trial {number}; the best trials are 1, 2"):
        write_winner(FILE, sweep, store, number, tmp_path / "winner.yaml")
    assert not list(tmp_path.glob("*.yaml"))


def test_study_without_results_and_existing_file_are_rejected(sweep: Sweep, store: Store, tmp_path: Path) -> None:
    empty = replace(sweep, sweep="empty")
    with pytest.raises(RunError, match="does not have a complete trial yet"):
        write_winner(FILE, empty, Store(empty), None, tmp_path / "w.yaml")
    (tmp_path / "w.yaml").write_text("")
    with pytest.raises(ConfigError, match="already exists"):
        write_winner(FILE, sweep, store, 1, tmp_path / "w.yaml")
