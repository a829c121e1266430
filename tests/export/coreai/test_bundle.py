"""Tests a Core AI export: the contents of a bundle, its verification by Apple's runtime, and errors."""

import hashlib
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from safetensors.torch import load_file

from pocketdit.artifacts.notice import NOTICE
from pocketdit.artifacts.run_folder import RunFolder
from pocketdit.commands.main import main
from pocketdit.errors import RunError
from pocketdit.export.common.census import Census
from pocketdit.export.coreai.settings import CoreAIExport, Form
from pocketdit.files import sha256_of
from pocketdit.latency.bundles import open_bundle
from tests.conftest import ROOT

Precision = Literal["float16", "float32"]


def test_manifest_contains_what_an_app_needs(coreai_bundle: Path, coreai_runs: Path) -> None:
    content = json.loads((coreai_bundle / "manifest.json").read_text())
    assert content["weights"]["sha256"] == sha256_of(coreai_runs / "elastic_pretrain" / "one" / "weights.safetensors")
    assert content["settings"]["kind"] == "coreai"
    packages = content["packages"]
    assert packages["transformer"]["inputs"]["text"] == packages["text_projection"]["outputs"]["text"]
    assert packages["transformer"]["inputs"]["text"] == {"shape": [1, 32, 1, 1 + 5 + 6], "dtype": "float32"}
    assert packages["decoder"]["outputs"]["image"] == {"shape": [1, 3, 64, 64], "dtype": "float32"}
    assert packages["transformer"]["bits_per_weight"] == 16
    snr = [check["snr_db"] for check in content["verification"] if "velocity" in check["output"]]
    assert snr
    assert min(snr) > 50
    assert {"manifest.json", "census.json", NOTICE, *(f"{name}.aimodel" for name in packages)} <= {
        path.name for path in coreai_bundle.iterdir()
    }
    assert Census.from_json((coreai_bundle / "census.json").read_text()).count == packages["transformer"]["operations"]


def test_only_operations_on_the_time_are_float32(coreai_bundle: Path) -> None:
    census = Census.from_json((coreai_bundle / "census.json").read_text())
    dtypes = {o.kind: o.dtype for o in census.operations}
    assert dtypes["cos"] == dtypes["sin"] == "FLOAT32"
    assert dtypes["softmax"] == dtypes["conv"] == dtypes["matmul"] == "FLOAT16"


def change_one_weight(package: Path, weight: np.ndarray) -> None:
    """Flip the lowest bit of the middle element of a weight in the program, and update the hash of the program."""
    program = package / "main.mlirb"
    content = bytearray(program.read_bytes())
    start = content.index(weight.tobytes())
    content[start + weight.nbytes // 2 // 2 * 2] ^= 1
    program.write_bytes(content)
    (package / "main.hash").write_bytes(hashlib.sha256(content).digest())


def test_verification_detects_one_changed_bit(
    coreai_bundle: Path, coreai_runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(coreai_bundle, tmp_path / "b")
    assert main(["verify", str(copy)]) == 0
    name = "stages.0.blocks.0.ffn.expand.weight"
    weight = load_file(RunFolder(coreai_runs / "elastic_pretrain" / "one").weights)[name]
    change_one_weight(copy / "transformer.aimodel", weight[: (32 * 3), :32].half().contiguous().numpy())
    assert main(["verify", str(copy)]) == 1
    assert f"{name}: the packages do not contain this weight" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("rm -r decoder.aimodel", "does not contain decoder.aimodel; export the bundle again"),
        ("rm transformer.aimodel/main.mlirb", "main.mlirb is missing; export the bundle again"),
        ("truncate -s 100 transformer.aimodel/main.mlirb", "main.mlirb is damaged"),
    ],
)  # fmt: skip
def test_damaged_bundles_are_one_line_errors(
    coreai_bundle: Path, tmp_path: Path, damage: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(coreai_bundle, tmp_path / "b")
    subprocess.run(damage, shell=True, cwd=copy, check=True)
    assert main(["verify", str(copy)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_another_width_does_not_match_the_bundle(coreai_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(coreai_bundle), "width=1.0"]) == 1
    assert "do not contain this weight" in capsys.readouterr().err


def test_exceeded_budgets_are_reported(coreai_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(coreai_bundle), "budget.operations=100"]) == 1
    assert re.search(r"budget.operations: the limit is 100, but the graph has \d+", capsys.readouterr().err)


def test_latency_is_predicted_but_not_measured(coreai_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = open_bundle(coreai_bundle)
    assert bundle.format == "coreai"
    assert bundle.census().count
    with pytest.raises(RunError, match="only Core ML packages can be measured"):
        bundle.path_of("transformer")


@pytest.mark.slow  # converts a three-level network in every form and precision
@pytest.mark.parametrize("precision", ["float16", "float32"])
@pytest.mark.parametrize("form", ["split_einsum", "fused"])
def test_all_forms_equal_a_network_with_three_levels(
    runs: Path, coreai_settings: CoreAIExport, tmp_path: Path, form: Form, precision: Precision
) -> None:
    pytest.importorskip("coreai_torch", reason="Core AI is optional: pip install 'pocketdit[coreai]'")
    from pocketdit.export.coreai.export import export_coreai

    changes: dict[str, Any] = {"run": "elastic_pretrain/t", "runs": runs, "form": form, "precision": precision}
    changes |= {"min_snr": 40}  # Apple's runtime accumulates float16 matrix products in float16
    folder = export_coreai(replace(coreai_settings, out=tmp_path, **changes))
    content = json.loads((folder / "manifest.json").read_text())
    if precision == "float32":
        assert max(check["max_error"] for check in content["verification"]) < 1e-4
    kinds = {o.kind for o in Census.from_json((folder / "census.json").read_text()).operations}
    composites = {"scaled_dot_product_attention", "layer_norm", "rope"}
    assert kinds & composites == (composites if form == "fused" else set())
    assert main(["sample", str(folder), "a red circle", "--out", str(tmp_path / "x.png")]) == 0


def test_missing_package_is_a_one_line_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pocketdit.export.coreai import dependency

    monkeypatch.setattr(dependency, "find_spec", lambda name: None)
    assert main(["export", str(ROOT / "experiments" / "export" / "coreai.yaml"), "run=r"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("lightning export: coreai is not installed; on Linux")
    assert line.endswith("pip install 'pocketdit[coreai]'")
