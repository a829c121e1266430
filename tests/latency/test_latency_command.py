"""Tests that ``lightning latency`` predicts and records the latency of a bundle, and reports errors on one line."""

import inspect
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pocketdit.commands.main import main
from pocketdit.export.common.census import Census, OperationCost
from pocketdit.latency.devices import find_device
from pocketdit.latency.predict import predict
from pocketdit.latency.records import read_records

CENSUS = Census(
    (
        OperationCost("a", "conv", (1, 1024, 1, 4096), 8 * 10**9, 8 << 20, 8 << 20, 2 << 20, 16.0, count=76),
        OperationCost("b", "softmax", (1, 4096, 1, 1024), 10**7, 8 << 20, 8 << 20, count=32),
    )
)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "census.json").write_text(CENSUS.to_json())
    content = {"weights": {"run": "elastic_pretrain/r", "sha256": "0"}, "network": {"width": 0.5},
               "image": {"height": 1024, "width": 768}, "settings": {"batch": 1}}  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(content))
    return folder


def test_predictions_are_printed_and_recorded(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["latency", str(bundle)]) == 0
    out = capsys.readouterr().out
    expected = predict(CENSUS, find_device("iphone16promax"))
    assert "predicted latency" in out
    assert "measured latency" not in out
    assert f"{expected.milliseconds:.1f}" in out
    assert "1024x768" in out
    assert "lightning recommend run=elastic_pretrain/r device=iphone16promax size=1024x768 budget=400ms" in out
    (record,) = read_records(bundle)
    assert (record.kind, record.device, record.milliseconds) == ("predicted", "iphone16promax", expected.milliseconds)
    assert record.low < record.milliseconds < record.high
    assert main(["latency", str(bundle), "device=iphone14pro"]) == 0
    assert "extrapolated: scaled from the iPhone 16 Pro Max" in capsys.readouterr().out
    assert [record.device for record in read_records(bundle)] == ["iphone16promax", "iphone14pro"]


@pytest.mark.skipif(sys.platform == "darwin", reason="a Mac supports measuring")
@pytest.mark.parametrize("where", ["mac", "iphone"])
def test_measuring_without_a_mac_is_an_error(bundle: Path, where: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["latency", str(bundle), f"measure={where}"]) == 1
    err = capsys.readouterr().err
    assert "requires macOS" in err
    assert f"lightning latency {bundle}" in err
    assert err.count("\n") == 1
    assert read_records(bundle) == []


def test_core_ai_bundles_are_predicted_but_not_measured(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_text(json.dumps(content | {"kind": "coreai"}))
    assert main(["latency", str(bundle)]) == 0
    assert "predicted latency" in capsys.readouterr().out
    assert main(["latency", str(bundle), "measure=iphone"]) == 1
    assert "only Core ML bundles can be measured, and this one is coreai" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("overrides", "status", "expected"),
    [
        (["device=iphone16promx"], 2, "iphone16promax"),
        (["measure=android"], 2, "iphone"),
        (["iterations=0"], 2, "iterations: must be from 1 to 1,000,000,000, not 0"),
        (
            ["measure=mac", "device=iphone16promax"],
            2,
            "device=iphone16promax cannot be measured with measure=mac; omit device",
        ),
        (["measure=iphone", "device=mac_m4"], 2, "device=mac_m4 cannot be measured with measure=iphone; omit device"),
        (["devce=iphone16promax"], 2, "device"),
    ],
)
def test_invalid_overrides_are_one_line_errors(
    bundle: Path, overrides: list[str], status: int, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["latency", str(bundle), *overrides]) == status
    err = capsys.readouterr().err
    assert expected in err
    assert err.count("\n") == 1


def test_damaged_and_missing_bundles_are_errors(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["latency", str(tmp_path / "none")]) == 1
    assert "lightning export" in capsys.readouterr().err
    (bundle / "census.json").unlink()
    assert main(["latency", str(bundle)]) == 1
    assert "census" in capsys.readouterr().err
    (bundle / "manifest.json").write_text("{}")
    assert main(["latency", str(bundle)]) == 1
    assert "manifest" in capsys.readouterr().err


def test_coremltools_has_the_apis_that_measuring_needs() -> None:
    """Measuring requires a Mac, but the names and parameters of these APIs can be checked on any machine."""
    pytest.importorskip("coremltools")
    import coremltools as ct
    from coremltools.models.compute_plan import MLComputePlan
    from coremltools.models.ml_program.experimental.perf_utils import MLModelBenchmarker
    from coremltools.models.ml_program.experimental.remote_device import AppSigningCredentials, Device, DeviceType

    def takes(function: Callable[..., Any], *names: str) -> bool:
        return set(names) <= set(inspect.signature(function).parameters)

    assert takes(ct.models.MLModel, "compute_units", "skip_model_load")
    assert takes(MLModelBenchmarker, "model", "device")
    assert takes(MLModelBenchmarker.benchmark_predict, "iterations", "warmup")
    assert takes(MLComputePlan.load_from_path, "path", "compute_units")
    assert takes(Device.prepare_for_model_debugging, "credentials")
    assert takes(AppSigningCredentials, "development_team", "bundle_identifier")
    assert DeviceType.IPHONE in DeviceType
    assert takes(Device.get_connected_devices, "device_type")
    assert {"CPU_AND_NE", "CPU_AND_GPU", "CPU_ONLY", "ALL"} == set(ct.ComputeUnit.__members__)
    assert hasattr(ct.models.MLModel, "get_compiled_model_path")
