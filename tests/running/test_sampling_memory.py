"""Tests that image sizes that would need more than the free memory are refused before anything is allocated."""

from pathlib import Path

import pytest

from pocketdit.artifacts.run_folder import load_experiment
from pocketdit.commands.main import main
from pocketdit.running import sampling_memory
from pocketdit.running.sampling_memory import least_sampling_bytes
from tests.conftest import ROOT
from tests.export.conftest import tiny_run

HUGE = "65536x65536"


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sampling_memory, "available_memory", lambda: 10**10)
    tiny_run(tmp_path / "runs", "t")
    return tmp_path / "runs"


def test_the_bound_contains_the_images_and_grows_with_the_size(runs: Path) -> None:
    experiment = load_experiment(tiny_run(runs, "u"))
    small = least_sampling_bytes(experiment, (64, 64), 1)
    assert small >= 3 * 64 * 64 * 4
    assert least_sampling_bytes(experiment, (128, 128), 1) == pytest.approx(4 * small, rel=0.5)
    assert least_sampling_bytes(experiment, (64, 64), 4) > small


def test_sample_and_export_refuse_a_size_that_does_not_fit(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = runs.parent / "grid.png"
    words = ["sample", "elastic_pretrain/t", "a red circle", "--runs", str(runs), "--out", str(out)]
    assert main([*words, "--size", HUGE]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("lightning sample: --size: sampling 65536x65536 pixels needs at least ")
    assert "but only 10.0 GB is free" in line
    assert not out.exists()
    assert main([*words, "--size", "64x64", "--steps", "1"]) == 0

    pytest.importorskip("coremltools")
    export = ["export", str(ROOT / "experiments" / "export" / "coreml.yaml"), "run=elastic_pretrain/t"]
    assert main([*export, f"runs={runs}", f"out={runs.parent / 'out'}", f"size={HUGE}"]) == 2
    assert "size: sampling 65536x65536 pixels needs at least " in capsys.readouterr().err
