"""Tests for exporting a LoRA separately from the network, so that an app can set its strength."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from pocketdit.backbones.lora import ALL_TARGETS, target_modules
from pocketdit.commands.main import main
from pocketdit.errors import ConfigError, RunError
from pocketdit.export.common.graphs import make_example
from pocketdit.export.common.kept_lora import ScaledNetwork, merged
from pocketdit.export.common.subject import load_subject
from pocketdit.export.coreml.bundle import open_packages, verify_bundle
from pocketdit.export.coreml.export import export_coreml
from pocketdit.export.coreml.settings import CoreMLExport
from pocketdit.export.coreml.stored_weights import require_stored_weights
from pocketdit.mobile.build import build_mobile_form
from pocketdit.mobile.weights import mobile_weights
from tests.export.conftest import COREML, tiny_run

RANK = 3


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> CoreMLExport:
    """Export settings for a run with a LoRA on all supported layers, stored as fine-tuning stores it."""
    runs = tmp_path_factory.mktemp("tuned") / "runs"
    folder = tiny_run(runs, "t")
    weights = load_file(folder.weights)
    matrices = {name.removesuffix(".weight"): value for name, value in weights.items() if name.endswith(".weight")}
    layers = {name: value for name, value in matrices.items() if re.fullmatch(target_modules(ALL_TARGETS), name)}
    assert len(layers) > 20
    for name, value in layers.items():
        weights[f"lora.elastic.{name}.A"] = torch.randn(RANK, value.shape[1]) * 0.3
        weights[f"lora.elastic.{name}.B"] = torch.randn(value.shape[0], RANK) * 0.3
    save_file(weights, folder.weights)
    return CoreMLExport(export="tuned", run="elastic_pretrain/t", width=0.5, precision="float32", query_chunk=9,
                        times=(0.6,), out=runs.parent / "exports", runs=runs, lora="kept")  # fmt: skip


@pytest.mark.parametrize("width", [0.5, 1.0])
def test_every_strength_equals_that_of_merged_weights(tuned: CoreMLExport, width: float) -> None:
    subject = load_subject(replace(tuned, width=width), keep_lora=True)
    example = make_example(subject, 1, 0.6, 0)
    outputs = []
    for scale in (0.0, 0.5, 1.0):
        reference = merged(subject.network, subject.lora, scale)
        transformer, projection = build_mobile_form(subject.network, subject.latent_size)
        text = projection([t.embeddings for t in example.text], [t.mask.float() for t in example.text])
        network = ScaledNetwork(transformer, subject.lora)
        outputs.append(network(example.latents, example.time, *text, torch.tensor([scale])))
        expected = reference(example.latents, example.time, example.text)
        torch.testing.assert_close(outputs[-1], expected, atol=1e-4, rtol=1e-4)
    assert (outputs[0] - outputs[1]).std() > 0.01 * outputs[0].std()
    assert (outputs[1] - outputs[2]).std() > 0.01 * outputs[0].std()


def test_the_strength_of_one_is_the_run_itself(tuned: CoreMLExport) -> None:
    kept, whole = load_subject(tuned, keep_lora=True), load_subject(tuned)
    assert not whole.lora
    ours, theirs = merged(kept.network, kept.lora, 1.0).state_dict(), whole.network.state_dict()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, atol=1e-6, rtol=1e-5)


@pytest.mark.slow
def test_the_package_has_the_strength_as_an_input(tuned: CoreMLExport, capsys: pytest.CaptureFixture[str]) -> None:
    """The package stores the weights from before fine-tuning, so verification against the merged weights fails."""
    folder = export_coreml(tuned)
    assert folder.name.endswith("-lora_kept")
    content = json.loads((folder / "manifest.json").read_text())
    assert content["packages"]["transformer"]["inputs"]["lora_scale"]["shape"] == [1]
    checked = [check["output"] for check in content["verification"] if "velocity" in check["output"]]
    assert checked == ["velocity at time 0.6, lora_scale 1", "velocity at time 0.6, lora_scale 0"]
    assert all(check["max_error"] < 1e-5 for check in content["verification"])
    subject = load_subject(tuned, keep_lora=True)
    packages = open_packages(folder)
    require_stored_weights(
        packages.values(), mobile_weights(subject.network.state_dict(), subject.network.spec), "float32"
    )
    verify_bundle(folder, [])
    with pytest.raises(RunError, match="do not contain this weight"):
        verify_bundle(folder, ["lora=merged"])
    images = []
    for scale in ("0", "1"):
        out = folder.parent / f"{scale}.png"
        words = ["a red circle", "--steps", "1", "--lora-scale", scale, "--out", str(out)]
        assert main(["sample", str(folder), *words]) == 0
        images.append(np.asarray(Image.open(out).convert("RGB")).astype(float))
    assert np.abs(images[0] - images[1]).max() > 20
    half = export_coreml(replace(tuned, precision="float16"))
    checks = json.loads((half / "manifest.json").read_text())["verification"]
    assert min(check["snr_db"] for check in checks if "velocity" in check["output"]) > 45


def test_a_run_without_a_lora_has_nothing_to_keep(
    runs: Path, settings: CoreMLExport, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run=elastic_pretrain/t", f"runs={runs}", f"out={tmp_path}", "lora=kept"]
    assert main(["export", str(COREML), *words]) == 2
    error = capsys.readouterr().err
    assert "lora=kept: elastic_pretrain/t has no LoRA; use lora=merged" in error
    assert error.count("\n") == 1
    described = replace(settings, run=None, experiment=COREML.parents[1] / "elastic_pretrain.yaml")
    with pytest.raises(ConfigError, match="lora=kept: random weights have no LoRA"):
        load_subject(described, keep_lora=True)
