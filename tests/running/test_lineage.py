"""Tests for recording the parents of a run."""

from pathlib import Path

import pytest

from pocketdit.artifacts.run_folder import create
from pocketdit.config.experiment import Experiment
from pocketdit.config.load import load
from pocketdit.errors import RunError
from pocketdit.running import lineage
from tests.conftest import ROOT

FILE = ROOT / "experiments" / "knowledge_distill.yaml"


def create_run(runs: Path, experiment: str, name: str) -> Path:
    folder = create(runs, experiment, name, "experiment: x\n")
    folder.weights.write_bytes(name.encode())
    return folder.path


def pinned(runs: Path, recorded: dict[str, str], *overrides: str) -> dict[str, str]:
    loaded = load(FILE, [f"runs={runs}", *overrides], Experiment)
    return lineage.pin(loaded, recorded).config.parents


def test_an_experiment_means_its_latest_run_until_a_run_is_recorded(tmp_path: Path) -> None:
    create_run(tmp_path, "teacher", "t")
    create_run(tmp_path, "elastic_pretrain", "one")
    create_run(tmp_path, "elastic_pretrain", "two")
    assert pinned(tmp_path, {}) == {"start": "elastic_pretrain/two", "teacher": "teacher/t"}
    recorded = {"start": "elastic_pretrain/one", "teacher": "teacher/t"}
    assert pinned(tmp_path, recorded) == recorded
    changed = pinned(tmp_path, recorded, "parents.start=elastic_pretrain/two")
    assert changed["start"] == "elastic_pretrain/two"


def test_interpolations_use_the_full_name(tmp_path: Path) -> None:
    create_run(tmp_path, "teacher", "t")
    create_run(tmp_path, "elastic_pretrain", "one")
    loaded = lineage.pin(load(FILE, [f"runs={tmp_path}"], Experiment), {})
    assert loaded.config.stage.init_args["teacher"].init_args["run"] == "teacher/t"
    assert "teacher/t" in loaded.to_yaml()


def test_a_run_in_another_folder_is_recorded_by_its_path(tmp_path: Path) -> None:
    create_run(tmp_path / "runs", "teacher", "t")
    elsewhere = create_run(tmp_path / "other", "elastic_pretrain", "one")
    assert pinned(tmp_path / "runs", {}, f"parents.start={elsewhere}")["start"] == str(elsewhere.resolve())


def test_a_missing_parent_is_an_error(tmp_path: Path) -> None:
    create_run(tmp_path, "teacher", "t")
    with pytest.raises(RunError, match="no run named elastic_pretrain"):
        pinned(tmp_path, {})


def test_a_parent_whose_weights_changed_is_rejected(tmp_path: Path) -> None:
    create_run(tmp_path, "teacher", "t")
    start = create_run(tmp_path, "elastic_pretrain", "one")
    config = lineage.pin(load(FILE, [f"runs={tmp_path}"], Experiment), {}).config
    folder = create(tmp_path, "knowledge_distill", "k", "experiment: x\n")
    assert lineage.verify(folder, config) == lineage.verify(folder, config)
    assert lineage.unfinished(config) == ["elastic_pretrain/one", "teacher/t"]
    (start / "weights.safetensors").write_bytes(b"others")
    with pytest.raises(RunError, match=r"parents\.start: the weights of elastic_pretrain/one have changed"):
        lineage.verify(folder, config)


def test_tags_include_hashes_of_the_weights(tmp_path: Path) -> None:
    create_run(tmp_path, "teacher", "t")
    create_run(tmp_path, "elastic_pretrain", "one")
    loaded = lineage.pin(load(FILE, [f"runs={tmp_path}"], Experiment), {})
    tags = lineage.tags(loaded.config)
    assert tags["parent.start"] == "elastic_pretrain/one"
    assert len(tags["parent.start.weights_sha256"]) == 64
    assert tags["parent.start.weights_sha256"] != tags["parent.teacher.weights_sha256"]


def test_the_name_of_a_parent_is_not_read_as_yaml(tmp_path: Path) -> None:
    create_run(tmp_path, "teacher", "t")
    create_run(tmp_path, "elastic_pretrain", "a: b #1 ${c}")
    assert pinned(tmp_path, {})["start"] == "elastic_pretrain/a: b #1 ${c}"
