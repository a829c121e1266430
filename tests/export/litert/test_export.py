"""Tests for ``lightning export`` with LiteRT: settings, the contents of a bundle, and errors."""

import json
import re
from pathlib import Path

import pytest

from pocketdit.commands.main import main
from pocketdit.config.experiment import Experiment
from pocketdit.config.load import load
from pocketdit.errors import ConfigError
from pocketdit.export.litert.settings import LiteRTExport
from pocketdit.export.settings import settings_class
from pocketdit.latency.records import read_records
from tests.conftest import ROOT

FILE = ROOT / "experiments" / "export" / "litert.yaml"


@pytest.fixture
def described(tmp_path: Path) -> Path:
    """A YAML file that describes a network with one small block."""
    small = ["backbone.width=32", "backbone.head_dim=8", "backbone.text_width=16", "backbone.text_kv_heads=2",
             "backbone.levels.0.depth=1", "backbone.levels.0.attention.kv_heads=2"]  # fmt: skip
    path = tmp_path / "small.yaml"
    path.write_text(load(ROOT / "experiments" / "teacher.yaml", small, Experiment).to_yaml())
    return path


def arguments(described: Path, out: Path, *more: str) -> list[str]:
    return ["export", str(FILE), "run=null", f"experiment={described}", f"out={out}", "size=64x96", *more]


def test_shipped_yaml_is_for_litert() -> None:
    assert settings_class(FILE) is LiteRTExport
    assert load(FILE, ["run=x", "width=0.5", "size=128x128"], LiteRTExport).config.image_size == (128, 128)


@pytest.mark.parametrize(("size", "shown"), [("128", "128"), ("0", "0"), ("[128, 128]", "a list"), ("1e3", "1000.0")])
def test_an_error_about_a_size_with_one_side_shows_the_right_form(size: str, shown: str) -> None:
    with pytest.raises(ConfigError, match=rf"size: must be HEIGHTxWIDTH in pixels, such as 768x1024, .* not {shown}$"):
        load(FILE, ["run=x", f"size={size}"], LiteRTExport)


def test_bundle_contains_model_manifest_and_latency(
    described: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("litert_torch", reason="LiteRT is optional: pip install 'pocketdit[litert]'")
    assert main(arguments(described, tmp_path / "out", "litert.passes=3")) == 0
    (folder,) = (tmp_path / "out").iterdir()
    packages = ("text_encoder_0", "text_encoder_1", "text_projection", "transformer")
    assert {path.name for path in folder.iterdir()} == {
        "manifest.json", "latency.jsonl", *(f"{name}.tflite" for name in packages)
    }  # fmt: skip
    content = json.loads((folder / "manifest.json").read_text())
    assert content["weights"] == {"run": None, "sha256": None, "note": "random weights"}
    transformer = content["packages"]["transformer"]
    assert transformer["inputs"]["latents"] == transformer["outputs"]["velocity"]
    assert transformer["inputs"]["latents"] == {"shape": [1, 16, 8, 12], "dtype": "float32"}
    assert max(check["max_error"] for check in content["verification"]) < 1e-5
    (record,) = read_records(folder)
    assert (record.kind, record.units, record.size, record.runs) == ("measured", "CPU, 1 thread", "64x96", 3)
    assert 0 < record.low <= record.milliseconds <= record.high
    out = capsys.readouterr().out
    assert "velocity at time 0.9" in out
    assert "velocity at time 0.3" in out
    assert "measured latency" in out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("size=100x96",), "sides must be multiples of"),
        (("width=0.5",), "width=0.5: .* only has the widths 1"),
        (("litert.threads=0",), "litert.threads: must be from 1 to 1,024, not 0"),
        (("litert.gpu=true",), "set benchmark to the path"),
        (("run=x",), "run: set either run=RUN, or run=null with experiment=FILE"),
        (("budget.operations=3",), "budget"),
        (("precision=int8",), "precision"),
    ],
)
def test_invalid_settings_are_one_line_errors(
    described: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], message: str
) -> None:
    pytest.importorskip("litert_torch", reason="LiteRT is optional: pip install 'pocketdit[litert]'")
    assert main(arguments(described, tmp_path / "out", *more)) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("lightning export: ")
    assert re.search(message, line)
    assert not (tmp_path / "out").exists()
