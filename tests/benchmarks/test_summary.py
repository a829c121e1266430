"""Tests for the table of all ratios and targets."""

import json
from pathlib import Path

import pytest

from benchmarks.summary import TARGETS, main, row


def write(folder: Path, name: str, **result: object) -> None:
    (folder / f"{name}.json").write_text(json.dumps({"benchmark": name, **result}))


def test_a_target_is_a_lower_or_an_upper_limit(tmp_path: Path) -> None:
    ratio = {"median": 1.5, "low": 1.0, "high": 2.0}
    write(tmp_path, "frechet", ratio=ratio, required=1.4)
    write(tmp_path, "training_step", ratio=ratio, required=1.4)
    by_name = {target.benchmark: row(target, tmp_path)[2:] for target in TARGETS}
    assert by_name["frechet"] == ["1.50 (1.00 to 2.00)", "at least 1.4", "met"]
    assert by_name["training_step"] == ["1.50 (1.00 to 2.00)", "at most 1.4", "NOT met"]
    assert by_name["loader"] == ["not measured", "", ""]


def test_every_ratio_of_a_benchmark_has_a_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ratio = {"median": 0.9, "low": 0.9, "high": 0.9}
    write(tmp_path, "forward", ratio=ratio, required=0.9, peers={"PixArt": 1.2, "Sana": 0.8})
    write(tmp_path, "elastic_step", ratio=ratio, required=1.05, memory_ratio=1.1, required_memory=1.0)
    main([str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    verdicts = [line.rsplit("  ", 1)[1].strip() for line in lines if line.startswith(("forward", "elastic_step"))]
    assert verdicts == ["met", "met", "NOT met", "met", "NOT met"]
