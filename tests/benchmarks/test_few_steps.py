"""Tests for the comparison of few-step models: its entries, table, grid and error messages."""

from pathlib import Path

import pytest
from PIL import Image

from benchmarks.few_steps import Entry, main, parse_entry, scores_table
from pocketdit.commands.main import main as lightning
from pocketdit.errors import ConfigError
from tests.conftest import PRETRAIN


def test_entries_are_parsed() -> None:
    assert parse_entry("28 steps=kd:28") == Entry("28 steps", ("kd",), 28, None)
    assert parse_entry("DMD=a/1,a/2") == Entry("DMD", ("a/1", "a/2"), None, None)
    assert parse_entry("x=kd:4:1.5") == Entry("x", ("kd",), 4, 1.5)
    assert parse_entry("x=kd:4:1:euler") == Entry("x", ("kd",), 4, 1.0, "euler")
    for wrong in ("kd", "=kd", "x=kd:four", "x=kd:4:1:ulre", "x=kd:1.5", "x=kd:0", "x=kd:4:1.2.3", "x=,", "x=:4"):
        with pytest.raises(ConfigError, match="expected LABEL"):
            parse_entry(wrong)


def test_table_contains_mean_deviation_and_ratio_to_the_first_label() -> None:
    entries = [parse_entry("28 steps=a:28"), parse_entry("K-DMD=b,c,d")]
    text = scores_table(entries, [{0.5: [0.5]}, {0.5: [0.4, 0.5, 0.6]}])
    assert "0.500" in text
    assert "0.500 ± 0.100 (1.00)" in text
    assert "scene-rules" in text


def test_runs_are_scored_and_sampled_into_a_grid(
    tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lightning(["run", str(PRETRAIN), *tiny, "training.max_steps=1"]) == 0
    places = ["--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out"), "--grid", str(tmp_path / "grid.png")]
    entries = ["two=elastic_pretrain", "one=elastic_pretrain:1:1:euler"]
    assert main([*entries, "--width", "0.5", "--count", "6", *places]) == 0
    assert "0.5x" in capsys.readouterr().out
    assert Image.open(tmp_path / "grid.png").size[1] > 2 * 128


def test_missing_run_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["x=nothing", "--runs", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert "nothing" in error
    assert error.count("\n") == 1
