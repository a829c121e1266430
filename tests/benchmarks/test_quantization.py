"""Tests for the comparison of both rankings of layers, and for the scores of quantized networks."""

import json
from pathlib import Path

import pytest

from benchmarks.quantization_rankings import compare, rankings_table, summary
from benchmarks.quantization_rankings import main as rankings
from benchmarks.quantization_scores import main as scores
from pocketdit.artifacts.run_folder import find
from pocketdit.commands.main import main as lightning
from pocketdit.errors import RunError
from pocketdit.quantization.palette import stored_bits
from pocketdit.quantization.report import LayerReport, QuantizationReport
from tests.conftest import PRETRAIN

# The most sensitive layer is b by the relative error, but a by the mean squared error.
LAYERS = (
    LayerReport("a", 1000, 4, 0.01, 5.0),
    LayerReport("b", 1000, 8, 0.03, 0.1),
    LayerReport("c", 1000, 4, 0.02, 0.2),
)


def test_rankings_and_the_layers_in_which_they_differ(tmp_path: Path) -> None:
    file = tmp_path / "quantization.json"
    report = QuantizationReport(LAYERS, 0, 4, 8)
    assert report.average_bits * 3000 == 2 * stored_bits(1000, 4) + stored_bits(1000, 8)
    file.write_text(report.to_json())
    comparison = compare(file)
    assert [layer.name for layer in comparison.layers] == ["b", "c", "a"]
    assert comparison.relative == {"a": 4, "b": 8, "c": 4}
    assert comparison.mse == {"a": 8, "b": 4, "c": 4}
    assert [layer.name for layer in comparison.differing] == ["b", "a"]
    lines = rankings_table(comparison).splitlines()
    assert sum("differs" in line for line in lines) == 2
    assert "rank correlation over all layers: -1.00" in summary(comparison)
    assert "in both: 0" in summary(comparison)


def test_reports_without_mean_squared_errors_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "quantization.json"
    content = json.loads(QuantizationReport(LAYERS, 0, 4, 8).to_json())
    for layer in content["layers"]:
        del layer["mse"]
    file.write_text(json.dumps(content))
    with pytest.raises(RunError, match=r"has no mean squared errors.*quantize the run again"):
        compare(file)


@pytest.mark.slow
def test_scores_before_and_after_quantization_resume(
    tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lightning(["run", str(PRETRAIN), *tiny, "training.max_steps=1"]) == 0
    few = [*(item for item in tiny if not item.startswith(("runs=", "backbone.widths", "experiment="))),
           "training.max_steps=2", "training.validate_every=0", "stage.init_args.calibration_batches=1",
           "stage.init_args.average_bits=8", "stage.init_args.weight_threshold=256"]  # fmt: skip
    options = ["--start", "elastic_pretrain", "--width", "0.5", "--seeds", "1", "--count", "4",
               "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out"), "--set", *few]  # fmt: skip
    assert scores(options) == 0
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines() if line.startswith("0.5x")]
    assert [row[1] for row in rows] == ["relative", "mse"]
    runs = sorted(path.parent.name for path in (tmp_path / "runs" / "quantize_finetune").glob("elastic*/finished"))
    assert len(runs) == 4
    before = {run: find(tmp_path / "runs", f"quantize_finetune/{run}").weights.stat().st_mtime_ns for run in runs}
    assert scores(options) == 0
    assert rows == [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("0.5x")]
    after = {run: find(tmp_path / "runs", f"quantize_finetune/{run}").weights.stat().st_mtime_ns for run in runs}
    assert after == before
    rankings([f"quantize_finetune/{runs[0]}", "--runs", str(tmp_path / "runs")])
    assert "rank correlation" in capsys.readouterr().out
