"""Tests the picture that shows the images of a run, the images of its bundles, and their magnified differences."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.device_samples import Drawn, main
from pocketdit.export.app.bundle import Bundle


def test_differences_are_magnified() -> None:
    expected = torch.full((1, 3, 2, 2), 100, dtype=torch.uint8)
    actual = expected.clone()
    actual[0, 0, 0, 0], actual[0, 1, 0, 0] = 103, 0
    drawn = Drawn(Bundle(Path("b"), {}), expected, actual, 1.0)
    assert drawn.difference[0, :, 0, 0].tolist() == [30, 255, 0]
    assert drawn.psnr == pytest.approx(10 * np.log10(255**2 / ((9 + 10000) / 12)))
    assert Drawn(Bundle(Path("b"), {}), expected, expected, 1.0).psnr == float("inf")


@pytest.mark.slow  # exports a bundle and draws images with the full number of steps
def test_picture_of_a_tiny_run(bundle: Path, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = shutil.copytree(bundle, tmp_path / "bundle")
    out = tmp_path / "device.png"
    words = ["elastic_pretrain/t", str(copy), "--runs", str(runs), "--prompts", "2", "--out", str(out)]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "0.5x coreml" in shown
    assert float(shown.splitlines()[2].split()[-1]) > 35
    assert Image.open(out).height > 3 * 64
    content = json.loads((copy / "manifest.json").read_text())
    content["weights"]["sha256"] = "0" * 64
    (copy / "manifest.json").write_text(json.dumps(content))
    assert main(words) == 2
    assert "was not exported from the weights of elastic_pretrain/t" in capsys.readouterr().err
