"""Export as a whole: what stands in a bundle, what verification notices, and what is refused."""

import json
import shutil
import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pocketdit.errors import ConfigError, RunError
from pocketdit.export.build import export, open_packages, verify_bundle
from pocketdit.export.census import Census
from pocketdit.export.package import Literal, Package
from pocketdit.export.settings import Export
from pocketdit.export.subject import bundle_name, load_subject
from pocketdit.export.verify import verify
from pocketdit.files import sha256_of


def test_the_manifest_says_what_an_application_needs(bundle: Path, runs: Path) -> None:
    content = json.loads((bundle / "manifest.json").read_text())
    assert content["weights"]["run"] == "elastic_pretrain/t"
    assert content["weights"]["sha256"] == sha256_of(runs / "elastic_pretrain" / "t" / "weights.safetensors")
    assert content["latents"] == {"channels": 16, "height": 8, "width": 8} and content["network"]["hidden"] == 32
    packages = content["packages"]
    assert packages["transformer"]["inputs"]["text"] == packages["text_projection"]["outputs"]["text"]
    assert packages["transformer"]["inputs"]["text"]["shape"] == [1, 32, 1, 1 + 5 + 6]
    assert packages["decoder"]["outputs"]["image"]["shape"] == [1, 3, 64, 64]
    assert len(content["sampling"]["times"]) == content["sampling"]["steps"] + 1
    assert all(check["max_error"] < 1e-5 for check in content["verification"])
    assert {path.name for path in bundle.iterdir()} == {
        "manifest.json", "census.json", "transformer.mlpackage", "text_projection.mlpackage", "decoder.mlpackage",
    }  # fmt: skip
    assert Census.from_json((bundle / "census.json").read_text()).count == packages["transformer"]["operations"]


def test_float16_keeps_the_path_of_the_time_in_float32(half: Path) -> None:
    content = json.loads((half / "manifest.json").read_text())
    snr = [check["snr_db"] for check in content["verification"] if "velocity" in check["output"]]
    assert snr and min(snr) > 50
    found = {o.kind: o.outputs[o.name].dtype for o in Package(half / "transformer.mlpackage").operations}
    assert found["cos"] == found["sin"] == "FLOAT32"
    assert found["softmax"] == found["conv"] == found["einsum"] == "FLOAT16"


def test_gelu_is_the_approximation_that_the_network_has(bundle: Path) -> None:
    package = Package(bundle / "transformer.mlpackage")
    modes = {package.text(o.inputs["mode"][0]) for o in package.operations if o.kind == "gelu"}
    assert modes == {"TANH_APPROXIMATION"}


def move_one_weight(package: Package, by: float) -> None:
    """Change the middle element of the largest fp32 weight in the blob file."""
    weights = [a for o in package.constants.values() for a in o.inputs["val"] if isinstance(a, Literal)]
    largest = max(weights, key=lambda literal: literal.type.numel)
    (blob,) = package.path.rglob("weight.bin")
    content = bytearray(blob.read_bytes())
    # A record (coremltools' MILBlob): 4 bytes mark, 4 type, 8 size, 8 place of the data.
    (start,) = struct.unpack_from("<Q", content, largest.proto.blobFileValue.offset + 16)
    data = np.frombuffer(content, np.float32, largest.type.numel, start)
    data[largest.type.numel // 2] += by
    blob.write_bytes(content)


def test_one_changed_weight_is_noticed(bundle: Path, settings: Export, tmp_path: Path) -> None:
    copy = tmp_path / "bundle"
    shutil.copytree(bundle, copy)
    verify_bundle(copy, [])
    move_one_weight(Package(copy / "transformer.mlpackage"), 0.01)
    with pytest.raises(RunError, match="the packages do not hold this weight as the network has it"):
        verify_bundle(copy, [])
    # And the comparison of outputs notices by itself, without a look at the weights.
    changed = [c for c in verify(open_packages(copy), load_subject(settings), settings) if not c.passes(settings)]
    assert [c.what for c in changed] == ["velocity at time 0.6"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("rm -r transformer.mlpackage", "lacks transformer.mlpackage"),
        ("rm -r decoder.mlpackage", "lacks decoder.mlpackage"),
        ("find transformer.mlpackage -name weight.bin -delete", "holds no weight.bin"),
        ("truncate -s 100 $(find transformer.mlpackage -name weight.bin)", "weight.bin is damaged"),
        ("truncate -s 0 $(find transformer.mlpackage -name weight.bin)", "weight.bin is damaged"),
    ],
)
def test_a_damaged_bundle_is_one_line(bundle: Path, tmp_path: Path, damage: str, message: str) -> None:
    copy = shutil.copytree(bundle, tmp_path / "b")
    subprocess.run(damage, shell=True, cwd=copy, check=True)
    with pytest.raises(RunError, match=message) as caught:
        verify_bundle(copy, [])
    assert "\n" not in str(caught.value)


def test_a_bundle_is_compared_with_the_run_that_it_is_of(bundle: Path, tmp_path: Path) -> None:
    content = json.loads((bundle / "manifest.json").read_text())
    assert content["settings"]["run"] == content["weights"]["run"] == "elastic_pretrain/t"
    copy = shutil.copytree(bundle, tmp_path / "b")
    content["weights"]["sha256"] = "0" * 64
    (copy / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(RunError, match="the weights of elastic_pretrain/t have changed since"):
        verify_bundle(copy, [])


def test_bundles_of_other_forms_have_other_names(settings: Export) -> None:
    forms = (settings, replace(settings, batch=2), replace(settings, target="iOS18"), replace(settings, query_chunk=0),
             replace(settings, decoder="tiny_decoder/d"))  # fmt: skip
    names = {bundle_name(form, None) for form in forms}
    assert len(names) == 5 and not any("/" in name for name in names)


def test_another_width_of_the_run_is_not_what_was_exported(bundle: Path) -> None:
    with pytest.raises(RunError, match="do not hold this weight"):
        verify_bundle(bundle, ["width=1.0"])


def test_a_broken_budget_is_an_error_with_the_figures(bundle: Path) -> None:
    with pytest.raises(RunError, match=r"budget.operations is 100, the graph has \d+; budget.tensor_mb is 0.001"):
        verify_bundle(bundle, ["budget.operations=100", "budget.tensor_mb=0.001"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 0.4}, "width=0.4: elastic_pretrain/t has 0.5, 1"),
        ({"size": "72x64"}, "size=72x64: sides must be multiples of 32 pixels"),
        ({"run": "elastic_pretrain/x"}, "no run elastic_pretrain/x"),
    ],
)
def test_what_the_run_does_not_have_is_one_line(
    settings: Export, changes: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises((ConfigError, RunError), match=message):
        export(replace(settings, out=tmp_path, **changes))  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_that_is_none_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is no exported bundle: no readable manifest.json"):
        verify_bundle(tmp_path, [])
