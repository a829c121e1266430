"""Tests for ``lightning export`` and ``lightning verify`` with Core ML."""

from pathlib import Path

import pytest

from pocketdit.commands.main import main
from pocketdit.config.load import load
from pocketdit.export.coreml.settings import CoreMLExport
from pocketdit.export.settings import settings_class
from tests.export.conftest import COREML


def test_shipped_yaml_is_for_core_ml() -> None:
    assert settings_class(COREML) is CoreMLExport
    assert load(COREML, [], CoreMLExport).config.run == "elastic_pretrain"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["widht=0.5"], "widht"),
        (["size=big"], "must be HEIGHTxWIDTH in pixels"),
        (["run=null"], "run: set either run=RUN, or run=null with experiment=FILE"),
        (["blockwise=parallel"], "blockwise"),
        (["kind=litert"], "kind"),
    ],
)
def test_invalid_settings_are_one_line_errors(
    overrides: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(COREML), *overrides]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "missing required key 'kind'; set it to one of coreml, coreai, litert"),
        ("kind: corml", "did you mean 'coreml'?"),
        ("kind: [coreml]", "kind: unknown target a list"),
    ],
)
def test_yaml_without_a_valid_kind_is_an_error(
    line: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(f"export: x\n{line}\n")
    assert main(["export", str(path), "run=r"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_random_weights_are_noted_and_can_be_verified(half: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``lightning verify`` recreates the same random weights from the seed in the manifest."""
    manifest = (half / "manifest.json").read_text()
    assert '"note": "random weights"' in manifest
    assert '"palettized_weights": 0' in manifest
    assert not (half / "decoder.mlpackage").exists()
    assert main(["verify", str(half)]) == 1
    shown = capsys.readouterr()
    assert "velocity at time 0.5" in shown.out
    assert "budget.operations: the limit is 10, but the graph has" in shown.err
    assert main(["verify", str(half), "budget.operations=null", "seed=1"]) == 1
    assert "the packages do not contain this weight" in capsys.readouterr().err
