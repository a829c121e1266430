"""``lightning export`` with the YAML for LiteRT: settings, the folder that it leaves, and what it refuses."""

import json
import re
from pathlib import Path

import pytest

from pocketdit.commands.main import main
from pocketdit.config.experiment import Experiment
from pocketdit.config.load import load
from pocketdit.export.settings import Export
from pocketdit.latency.records import read
from pocketdit.litert.settings import LiteRTExport, kind_of
from tests.conftest import ROOT

FILE = ROOT / "experiments" / "export" / "litert.yaml"


@pytest.fixture
def described(tmp_path: Path) -> Path:
    """A YAML of a network with one small block."""
    small = ["backbone.width=32", "backbone.head_dim=8", "backbone.text_width=16", "backbone.text_kv_heads=2",
             "backbone.levels.0.depth=1", "backbone.levels.0.attention.kv_heads=2"]  # fmt: skip
    path = tmp_path / "small.yaml"
    path.write_text(load(ROOT / "experiments" / "teacher.yaml", small, Experiment).to_yaml())
    return path


def words(described: Path, out: Path, *more: str) -> list[str]:
    return ["export", str(FILE), "run=null", f"experiment={described}", f"out={out}", "size=64x96", *more]


def test_the_shipped_yaml_is_valid_and_says_what_it_does() -> None:
    assert kind_of(FILE) is LiteRTExport
    assert load(FILE, ["run=x", "width=0.5", "size=128x128"], LiteRTExport).config.source().pixels == (128, 128)
    text = FILE.read_text()
    assert "lightning export experiments/export/litert.yaml" in text and "Cost:" in text and "Expected:" in text


def test_other_yamls_are_for_core_ml() -> None:
    assert kind_of(FILE.with_name("coreml.yaml")) is Export


def test_an_export_is_a_file_its_manifest_and_its_latency(
    described: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("litert_torch", reason="LiteRT is an extra: pip install 'pocketdit[litert]'")
    assert main(words(described, tmp_path / "out", "litert.passes=3")) == 0
    (folder,) = (tmp_path / "out").iterdir()
    assert {path.name for path in folder.iterdir()} == {"network.tflite", "manifest.json", "latency.jsonl"}
    content = json.loads((folder / "manifest.json").read_text())
    assert content["weights"] == {"run": None, "sha256": None, "note": "random weights"}
    assert content["inputs"]["latents"] == content["outputs"]["velocity"] == [1, 16, 8, 12]
    assert content["conversion"]["error"] < 1e-5
    (record,) = read(folder)
    assert (record.kind, record.units, record.size, record.runs) == ("measured", "CPU, 1 thread", "64x96", 3)
    assert 0 < record.low <= record.milliseconds <= record.high
    said = capsys.readouterr().out
    assert "velocity at time 0.9" in said and "velocity at time 0.3" in said and "measured latency" in said


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("size=100x96",), "sides must be multiples of"),
        (("width=0.5",), "width=0.5: .* has 1"),
        (("litert.threads=0",), "threads must be at least 1"),
        (("litert.gpu=true",), "give benchmark"),
        (("run=x",), "give run=RUN, or experiment=FILE"),
        (("budget.operations=3",), "budget"),
        (("precision=int8",), "precision"),
    ],
)
def test_wrong_settings_are_one_line(
    described: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], message: str
) -> None:
    pytest.importorskip("litert_torch", reason="LiteRT is an extra: pip install 'pocketdit[litert]'")
    assert main(words(described, tmp_path / "out", *more)) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("lightning export: ")
    assert re.search(message, line)
    assert not (tmp_path / "out").exists()
