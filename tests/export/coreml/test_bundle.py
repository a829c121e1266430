"""Tests a Core ML export from end to end: the contents of a bundle, its verification, and errors."""

import json
import shutil
import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pocketdit.artifacts.notice import NOTICE
from pocketdit.errors import ConfigError, RunError
from pocketdit.export.common.census import Census
from pocketdit.export.common.decoder import load_with_decoder
from pocketdit.export.common.subject import bundle_name
from pocketdit.export.common.text_graphs import load_texts
from pocketdit.export.coreml.bundle import open_packages, verify_bundle
from pocketdit.export.coreml.export import export_coreml
from pocketdit.export.coreml.package import Literal, Package
from pocketdit.export.coreml.settings import CoreMLExport
from pocketdit.export.coreml.verify import interpret_and_compare
from pocketdit.files import sha256_of


def test_manifest_contains_what_an_app_needs(bundle: Path, runs: Path) -> None:
    content = json.loads((bundle / "manifest.json").read_text())
    assert content["weights"]["run"] == "elastic_pretrain/t"
    assert content["weights"]["sha256"] == sha256_of(runs / "elastic_pretrain" / "t" / "weights.safetensors")
    assert content["latents"] == {"channels": 16, "height": 8, "width": 8}
    assert content["network"]["hidden"] == 32
    packages = content["packages"]
    assert packages["transformer"]["inputs"]["text"] == packages["text_projection"]["outputs"]["text"]
    assert packages["transformer"]["inputs"]["text"]["shape"] == [1, 32, 1, 1 + 5 + 6]
    assert packages["decoder"]["outputs"]["image"]["shape"] == [1, 3, 64, 64]
    assert len(content["sampling"]["times"]) == content["sampling"]["steps"] + 1
    assert all(check["max_error"] < 1e-5 for check in content["verification"])
    assert {path.name for path in bundle.iterdir()} == {
        "manifest.json",
        "census.json",
        NOTICE,
        "text_encoder_0.mlpackage",
        "text_encoder_1.mlpackage",
        "transformer.mlpackage",
        "text_projection.mlpackage",
        "decoder.mlpackage",
    }
    assert Census.from_json((bundle / "census.json").read_text()).count == packages["transformer"]["operations"]


def test_bundle_carries_the_notice_of_the_run(bundle: Path, half: Path) -> None:
    assert (bundle / NOTICE).read_text() == "Drawn by A.\n"
    assert not (half / NOTICE).exists()  # no credits, because the weights are random


def test_float16_keeps_operations_on_the_time_in_float32(half: Path) -> None:
    content = json.loads((half / "manifest.json").read_text())
    snr = [check["snr_db"] for check in content["verification"] if "velocity" in check["output"]]
    assert snr
    assert min(snr) > 50
    dtypes = {o.kind: o.outputs[o.name].dtype for o in Package(half / "transformer.mlpackage").operations}
    assert dtypes["cos"] == dtypes["sin"] == "FLOAT32"
    assert dtypes["softmax"] == dtypes["conv"] == dtypes["einsum"] == "FLOAT16"


def test_gelu_keeps_the_tanh_approximation(bundle: Path) -> None:
    package = Package(bundle / "transformer.mlpackage")
    modes = {package.text(o.inputs["mode"][0]) for o in package.operations if o.kind == "gelu"}
    assert modes == {"TANH_APPROXIMATION"}


def change_one_weight(package: Package, by: float) -> None:
    """Add a number to the middle element of the largest fp32 weight in the blob file."""
    weights = [a for o in package.constants.values() for a in o.inputs["val"] if isinstance(a, Literal)]
    largest = max(weights, key=lambda literal: literal.type.numel)
    (blob,) = package.path.rglob("weight.bin")
    content = bytearray(blob.read_bytes())
    # A record in coremltools' MILBlob format has a marker (4 bytes), a type (4), a size (8) and the data offset (8).
    (start,) = struct.unpack_from("<Q", content, largest.proto.blobFileValue.offset + 16)
    data = np.frombuffer(content, np.float32, largest.type.numel, start)
    data[largest.type.numel // 2] += by
    blob.write_bytes(content)


def test_verification_detects_one_changed_weight(bundle: Path, settings: CoreMLExport, tmp_path: Path) -> None:
    copy = tmp_path / "bundle"
    shutil.copytree(bundle, copy)
    verify_bundle(copy, [])
    change_one_weight(Package(copy / "transformer.mlpackage"), 0.01)
    with pytest.raises(RunError, match="the packages do not contain this weight of the network"):
        verify_bundle(copy, [])
    # Comparing only the outputs also detects the change.
    subject = load_with_decoder(settings)
    comparisons = interpret_and_compare(open_packages(copy), subject, load_texts(settings, subject), settings)
    assert [c.output for c in comparisons if not settings.tolerance.accepts(c)] == ["velocity at time 0.6"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("rm -r transformer.mlpackage", "does not contain transformer.mlpackage; export the bundle again"),
        ("rm -r decoder.mlpackage", "does not contain decoder.mlpackage; export the bundle again"),
        ("find transformer.mlpackage -name weight.bin -delete", "weight.bin is missing; export the bundle again"),
        ("truncate -s 100 $(find transformer.mlpackage -name weight.bin)", "weight.bin is damaged"),
        ("truncate -s 0 $(find transformer.mlpackage -name weight.bin)", "weight.bin is damaged"),
    ],
)
def test_damaged_bundles_are_one_line_errors(bundle: Path, tmp_path: Path, damage: str, message: str) -> None:
    copy = shutil.copytree(bundle, tmp_path / "b")
    subprocess.run(damage, shell=True, cwd=copy, check=True)
    with pytest.raises(RunError, match=message) as caught:
        verify_bundle(copy, [])
    assert "\n" not in str(caught.value)


def test_changed_runs_are_detected(bundle: Path, tmp_path: Path) -> None:
    content = json.loads((bundle / "manifest.json").read_text())
    assert content["settings"]["run"] == content["weights"]["run"] == "elastic_pretrain/t"
    copy = shutil.copytree(bundle, tmp_path / "b")
    content["weights"]["sha256"] = "0" * 64
    (copy / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(RunError, match="the weights of elastic_pretrain/t have changed since this bundle was exported"):
        verify_bundle(copy, [])


def test_different_options_give_different_names(settings: CoreMLExport) -> None:
    changes: tuple[dict[str, object], ...] = (
        {},
        {"batch": 2},
        {"target": "iOS18"},
        {"query_chunk": 0},
        {"decoder": "tiny_decoder/d"},
        {"lora": "kept"},
    )
    names = {bundle_name(replace(settings, **change), None) for change in changes}  # type: ignore[arg-type]
    assert len(names) == 6
    assert not any("/" in name for name in names)


def test_another_width_does_not_match_the_bundle(bundle: Path) -> None:
    with pytest.raises(RunError, match="do not contain this weight"):
        verify_bundle(bundle, ["width=1.0"])


def test_exceeded_budgets_are_reported_with_figures(bundle: Path) -> None:
    with pytest.raises(
        RunError,
        match=r"budget.operations: the limit is 100, but the graph has \d+; budget.tensor_mb: the limit is 0.001",
    ):
        verify_bundle(bundle, ["budget.operations=100", "budget.tensor_mb=0.001"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 0.4}, "width=0.4: elastic_pretrain/t only has the widths 0.5, 1"),
        ({"size": "72x64"}, "size=72x64: both sides must be multiples of 32 pixels"),
        ({"run": "elastic_pretrain/x"}, "no run named elastic_pretrain/x"),
    ],
)
def test_unsupported_settings_are_errors(
    settings: CoreMLExport, changes: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises((ConfigError, RunError), match=message):
        export_coreml(replace(settings, out=tmp_path, **changes))  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_other_folders_are_not_bundles(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"not a bundle of packages \(no valid manifest.json\)"):
        verify_bundle(tmp_path, [])
