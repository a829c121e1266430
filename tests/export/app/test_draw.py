"""Tests that a bundle draws the image of its run without the run, and is refused if it is damaged or incomplete."""

import json
import math
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from PIL import Image

from pocketdit.commands.main import main
from pocketdit.errors import ConfigError
from pocketdit.export.app.bundle import SCHEMA, open_bundle
from pocketdit.export.coreml.export import export_coreml
from pocketdit.export.coreml.settings import CoreMLExport
from tests.conftest import ROOT

PROMPTS = ["a red circle left of a blue square", ""]
FEW = ["--seed", "3", "--steps", "3"]
Manifest = dict[str, Any]


def psnr(first: Path, second: Path) -> float:
    """Return the peak signal-to-noise ratio of two images in dB."""
    a, b = (np.asarray(Image.open(path)).astype(float) for path in (first, second))
    return float(10 * np.log10(255**2 / np.mean((a - b) ** 2)))


def sample_run(runs: Path, out: Path, *more: str) -> Path:
    options = ["--width", "0.5", "--noise", "portable", "--runs", str(runs), "--out", str(out)]
    assert main(["sample", "elastic_pretrain/t", *PROMPTS, *FEW, *options, *more]) == 0
    return out


def sample_bundle(bundle: Path, runs: Path, out: Path, *more: str) -> Path:
    """Draw images with a bundle while the folder of runs is absent."""
    away = runs.rename(runs.with_name("away"))
    try:
        assert main(["sample", str(bundle), *PROMPTS, *FEW, "--out", str(out), *more]) == 0
    finally:
        away.rename(runs)
    return out


def refusal(capsys: pytest.CaptureFixture[str], bundle: Path, *more: str) -> str:
    """Return the one-line error with which ``lightning sample`` refuses a bundle."""
    capsys.readouterr()
    assert main(["sample", str(bundle), "a circle", "--out", str(bundle.parent / "x.png"), *more]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert not (bundle.parent / "x.png").exists()
    return line


def manifest(change: Callable[[Manifest], Any]) -> Callable[[Path], None]:
    """Return a function that applies ``change`` to the manifest of a bundle, given the bundle's folder."""

    def damage(folder: Path) -> None:
        content = json.loads((folder / "manifest.json").read_text())
        change(content)
        (folder / "manifest.json").write_text(json.dumps(content))

    return damage


@pytest.fixture
def copy(bundle: Path, tmp_path: Path) -> Path:
    """A copy of the float32 bundle."""
    return shutil.copytree(bundle, tmp_path / "bundle")


def test_bundle_draws_the_image_of_its_run(
    bundle: Path, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sampled = sample_run(runs, tmp_path / "run.png")
    drawn = sample_bundle(bundle, runs, tmp_path / "drawn.png")
    assert psnr(sampled, drawn) > 45  # not equal, because the run computes in bfloat16, and the bundle in float32
    assert "2 images, 3 sampling steps (dpmpp_2m, coreml)" in capsys.readouterr().out
    other = sample_bundle(bundle, runs, tmp_path / "other.png", "--seed", "4")
    assert psnr(sampled, other) < 30


@pytest.mark.slow  # exports two more bundles: in float16, and with one of two text encoders
def test_float16_and_a_subset_of_the_encoders(settings: CoreMLExport, runs: Path, tmp_path: Path) -> None:
    sampled = sample_run(runs, tmp_path / "run.png")
    half = export_coreml(replace(settings, precision="float16", blockwise="batched", batch=2, out=tmp_path))
    assert psnr(sampled, sample_bundle(half, runs, tmp_path / "half.png")) > 35
    subset = export_coreml(replace(settings, text_encoders=(1,), out=tmp_path))
    assert (
        json.loads((subset / "manifest.json").read_text())["packages"]["transformer"]["inputs"]["text"]["shape"][3] == 7
    )
    # The other encoder is hidden. The exact effect is tested in test_text_subset.py.
    assert psnr(sampled, sample_bundle(subset, runs, tmp_path / "subset.png")) < 45


@pytest.mark.slow  # exports bundles in other formats
@pytest.mark.parametrize(("kind", "module"), [("coreai", "coreai_torch"), ("litert", "litert_torch")])
def test_other_formats_draw_with_their_runtimes(
    kind: str, module: str, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip(module)
    file = ROOT / "experiments" / "export" / f"{kind}.yaml"
    options = ["run=elastic_pretrain/t", f"runs={runs}", "width=0.5", "precision=float16", f"out={tmp_path / 'out'}"]
    assert main(["export", str(file), *options]) == 0
    (exported,) = (tmp_path / "out").iterdir()
    Draft202012Validator(json.loads(SCHEMA.read_text())).validate(json.loads((exported / "manifest.json").read_text()))
    sampled = sample_run(runs, tmp_path / "run.png")
    assert psnr(sampled, sample_bundle(exported, runs, tmp_path / "drawn.png")) > 35
    manifest(widen_latents)(exported)
    assert re.search("transformer.* has inputs with .*, but the manifest lists", refusal(capsys, exported))


def test_manifests_match_the_schema(bundle: Path, half: Path) -> None:
    schema = json.loads(SCHEMA.read_text())
    Draft202012Validator.check_schema(schema)
    for folder in (bundle, half):
        Draft202012Validator(schema).validate(json.loads((folder / "manifest.json").read_text()))
    listed = set(json.loads((bundle / "manifest.json").read_text())["files"])
    stored = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()}
    assert listed == stored - {"manifest.json"}


def first_encoder(content: Manifest) -> Manifest:
    encoder: Manifest = content["text"]["encoders"][0]
    return encoder


def change_weight(folder: Path) -> None:
    (blob,) = (folder / "transformer.mlpackage").rglob("weight.bin")
    content = bytearray(blob.read_bytes())
    content[len(content) // 2] ^= 1
    blob.write_bytes(content)


def shift_times(content: Manifest) -> None:
    content["sampling"]["times"][1] -= 0.01


def drop_time(content: Manifest) -> None:
    del content["sampling"]["times"][1]


def require_tokenizer(content: Manifest) -> None:
    first_encoder(content)["tokenizer"] = {"kind": "word_pieces", "pieces": 16, "file": "t/tokenizer.json"}


def require_clip(tokens: int, pad: int) -> Callable[[Path], None]:
    """Return a function that replaces the tokenizer of the first encoder by CLIP's."""
    tokenizer = {"kind": "clip", "file": "t/tokenizer.json", "pad": pad}
    return manifest(lambda content: first_encoder(content).update(tokenizer=tokenizer, tokens=tokens))


def add_private_link(folder: Path) -> None:
    private = folder.parent / "private.txt"
    private.write_text("a secret")
    (folder / "NOTICE.txt").unlink(missing_ok=True)
    (folder / "NOTICE.txt").symlink_to(private)


def widen_latents(content: Manifest) -> None:
    content["packages"]["transformer"]["inputs"]["latents"]["shape"][3] += 2


def escape(content: Manifest) -> None:
    content["packages"]["transformer"]["file"] = "../transformer.mlpackage"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (change_weight, "weight.bin has changed since the export"),
        (lambda folder: shutil.rmtree(folder / "decoder.mlpackage"), "is missing; copy the whole bundle"),
        (lambda folder: (folder / "manifest.json").write_text("[" * 10**5), "not valid JSON"),
        (lambda folder: (folder / "manifest.json").write_text("[]"), "not a manifest"),
        (manifest(shift_times), "sampling.times: the 25 times do not match 24 steps with a time shift of 3"),
        (manifest(drop_time), "sampling.times: the 24 times do not match 24 steps"),
        (manifest(lambda content: content["sampling"].update(time_shift=math.nan)), "not valid JSON"),
        (manifest(lambda content: content["sampling"].update(steps=24.0)), "sampling.steps: 24.0 is not of type"),
        (
            manifest(lambda content: content["sampling"].update(steps=10**12)),
            "steps: 1000000000000 is greater",
        ),
        (manifest(lambda content: first_encoder(content).update(tokenizer=None)), "tokenizer: None is not of type"),
        (manifest(require_tokenizer), "files: does not list t/tokenizer.json"),
        (require_clip(tokens=1, pad=0), "text.encoders.0.tokens: 1 is less than the minimum of 2"),
        (require_clip(tokens=5, pad=2**31), "text.encoders.0.tokenizer"),
        (manifest(escape), "packages.transformer.file: '../transformer.mlpackage' does not match"),
        (
            manifest(lambda content: content.update(format=3)),
            "has format 3, but this version of PocketDiT reads format 2; update",
        ),
        (manifest(lambda content: content.update(format=1)), "has format 1, .* export the bundle again"),
        (manifest(lambda content: content["sampling"].update(sampler="dpm")), "sampling.sampler: 'dpm' is not one"),
        (manifest(lambda content: content.pop("noise")), "'noise' is a required property"),
        (manifest(lambda content: content["packages"].pop("decoder")), "the bundle has no decoder"),
        (manifest(widen_latents), r"transformer.mlpackage: has inputs with .*, but the manifest lists .*'latents'"),
        (manifest(lambda content: first_encoder(content).update(package=None)), r"text encoder 0 \(pocketdit.encoders"),
    ],
)
def test_damaged_bundles_are_refused(
    copy: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[Any], Any], message: str
) -> None:
    damage(copy)
    assert re.search(message, refusal(capsys, copy))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--width", "1"], "--width: this is fixed when a bundle is exported"),
        (["--guidance", "2"], "--guidance: this is fixed when a bundle is exported"),
        (["--noise", "torch"], "--noise: this is fixed when a bundle is exported"),
        (["--seed", "-1"], "--seed -1: must be from 0 to"),
        (["--steps", "1000000000000"], "--steps 1000000000000: must be at most 10000"),
        (["--out", "images"], "--out images: must end with .png"),
        (["--lora-scale", "0.5"], "--lora-scale: the bundle has no separate LoRA"),
        (["--lora-scale", "nan"], "--lora-scale nan: must be a finite number"),
    ],
)
def test_options_that_a_bundle_fixes_are_refused(
    bundle: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert message in refusal(capsys, bundle, *options)


def test_links_to_files_elsewhere_are_refused(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_private_link(copy)
    assert main(["sample", str(copy), "a red circle"]) == 1
    assert "NOTICE.txt is a link to" in capsys.readouterr().err


def test_steps_of_a_distilled_network_are_fixed(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest(lambda content: content["sampling"].update(fixed_steps=True))(copy)
    assert "--steps 3: the network of" in refusal(capsys, copy, "--steps", "3")


def test_folders_without_a_manifest_are_not_bundles(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not an export bundle"):
        open_bundle(tmp_path)
