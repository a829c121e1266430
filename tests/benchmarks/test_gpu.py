"""Tests that the GPU benchmarks run on a CPU, and that a part that fails or hangs does not stop the others."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import gpu


def test_the_time_limits_add_up_to_less_than_eight_minutes() -> None:
    assert sum(part.seconds for part in gpu.PARTS) < gpu.TIME_LIMIT


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_quick_runs_every_part_that_a_cpu_can_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    patient = [replace(part, seconds=250) for part in gpu.PARTS]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu, "PARTS", patient)
        status = gpu.main(["--quick", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    assert status == 0, printed
    for name in ("attention", "step", "memory"):
        assert json.loads((tmp_path / f"{name}.json").read_text())["rows"]
    if not torch.cuda.is_available():
        assert "step_compiled: needs a GPU" in printed
        assert "skipped" in (tmp_path / "tests.txt").read_text()


def test_a_part_that_fails_or_hangs_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = (
        gpu.Part("fails", ("-c", "raise SystemExit(3)"), 60),
        gpu.Part("hangs", ("-c", "import time; time.sleep(60)"), 0.5),
        gpu.Part("works", ("-c", "print('done')"), 60),
    )
    monkeypatch.setattr(gpu, "PARTS", parts)
    assert gpu.main(["--quick", "--out", str(tmp_path)]) == 1
    printed = capsys.readouterr().out.splitlines()
    assert {"fails: failed with status 3", "hangs: stopped at its time limit", "works: ok"} <= set(printed)
    assert (tmp_path / "works.txt").read_text() == "done\n"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main(["--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "this machine has no GPU that torch can use; try --quick\n"
