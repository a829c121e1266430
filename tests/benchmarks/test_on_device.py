"""Tests for the on-device benchmark, with small embedded networks instead of the paper's."""

import json
from pathlib import Path

import pytest

from benchmarks import on_device
from benchmarks.on_device import CONVERTED, EAGER, FILES, LITERT, NETWORKS, PASSES, PHONE, main, report_conclusion
from pocketdit.config.experiment import Experiment
from pocketdit.config.load import load
from pocketdit.training.cost import parameters_by_width


def test_small_model_has_the_size_of_the_papers() -> None:
    file, width = NETWORKS["small"]
    spec = load(on_device.EXPERIMENTS / file, [], Experiment).config.backbone
    assert 0.35e9 < parameters_by_width(spec)[width] < 0.45e9


def test_timing_one_pass_prints_its_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--quick", "--time", "D", "--runtime", EAGER])
    assert 0 < json.loads(capsys.readouterr().out.splitlines()[-1]) < 60


def test_conclusion_from_known_times(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A takes 2x as long as D in PyTorch and 3x as long in LiteRT. LiteRT runs the small model 2x as fast."""
    known = {("small", EAGER): 4.0, ("small", LITERT): 2.0, ("A", EAGER): 8.0, ("A", LITERT): 6.0, ("D", EAGER): 4.0}
    seconds = {key: [known.get(key, 2.0), known.get(key, 2.0)] for key in PASSES}
    file = {"parameters": 1, "seconds": 1.0, "bytes": 1, "operations": 1, "error": 1e-6, "peak_gb": 1.0}
    report_conclusion(seconds, dict.fromkeys(CONVERTED, file), tmp_path / "x.json")
    result = json.loads((tmp_path / "x.json").read_text())
    assert result["ratio"]["median"] == 2
    assert result["met"]
    assert result["ladder"][EAGER]["median"] == 2
    assert result["ladder"][LITERT]["median"] == 3
    assert result["phone"] == pytest.approx(PHONE) == pytest.approx(5.56, abs=0.01)
    assert capsys.readouterr().out.splitlines()[-1].startswith("ratio: torch eager / LiteRT = 2.00")


@pytest.mark.slow
def test_quick(tmp_path: Path) -> None:
    for name in ("litert_torch", "onnxruntime", "onnxscript"):
        pytest.importorskip(name, reason="optional dependency: pip install 'pocketdit[litert,bench]'")
    main(["--quick", "--json", str(tmp_path / "x.json"), "--models", str(tmp_path / "models")])
    result = json.loads((tmp_path / "x.json").read_text())
    assert {"machine", "benchmark", "rows", "ratio", "required", "met"} <= set(result)
    assert {(row["network"], row["runtime"]) for row in result["rows"]} == set(PASSES)
    assert all(row["seconds"][0] > 0 for row in result["rows"])
    files = {f"{name}.{FILES[runtime]}" for name, runtime in CONVERTED}
    assert {path.name for path in (tmp_path / "models").iterdir()} >= files | {f"{name}.json" for name in files}
    assert all(file["error"] < 1e-4 for file in result["converted"])
