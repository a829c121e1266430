"""Tests that the Swift package refuses damaged bundles and invalid arguments with one line, and never crashes."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.export.app.swift_jobs import Job, Manifest, clip_tokenizer, swift, write


def tokenizer(**settings: Any) -> Callable[[Manifest], None]:
    """Return a function that replaces the tokenizer of the first text encoder."""

    def change(content: Manifest) -> None:
        content["text"]["encoders"][0]["tokenizer"] = settings

    return change


def update(*keys: str | int, **values: Any) -> Callable[[Manifest], None]:
    """Return a function that updates the part of a manifest with these keys."""

    def change(content: Any) -> None:
        for key in keys:
            content = content[key]
        content.update(values)

    return change


def clip_with_one_token(content: Manifest) -> None:
    tokenizer(kind="clip", file="x.json", pad=0)(content)
    content["text"]["encoders"][0]["tokens"] = 1


NOT_JSON = "is not valid JSON, or contains a number that is out of range"
LATENTS = ("packages", "transformer", "inputs", "latents")
DAMAGES: list[tuple[Callable[[Manifest], Any], str]] = [
    (update(format=3), "format: the bundle has format 3, but this app reads format 2; update the app"),
    (update(format=1), "format: the bundle has format 1, but this app reads format 2; export the bundle again"),
    (update(format="2"), "manifest.json: format: "),
    (lambda content: content.pop("noise"), "manifest.json: noise: is missing"),
    (lambda content: content["latents"].pop("height"), "manifest.json: latents.height: is missing"),
    (update("noise", generator="x"), "noise.generator: x is unknown"),
    (update("image", width=0), "image: the size [3, 64, 0] is not positive"),
    (update("latents", height=-8), "latents: the size [16, -8, 8] is not positive"),
    (update("latents", height=2**40, width=2**40), "latents: the size [16, 1099511627776, 1099511627776] is too large"),
    (update("latents", height=2**20, width=2**10), "is too large"),
    (update("latents", height=10**30), NOT_JSON),
    (update("latents", height=16), "packages.transformer.inputs.latents: the shape [1, 16, 8, 8] does not match"),
    (update(*LATENTS, shape=[0, 16, 8, 8]), "packages.transformer.inputs.latents.shape: the size [0, 16, 8, 8] is not"),
    (update(*LATENTS, shape=[]), "packages.transformer.inputs.latents: the shape [] does not match"),
    (update(*LATENTS, shape=[1, 16, 8]), "packages.transformer.inputs.latents: the shape [1, 16, 8] does not match"),
    (update("packages", "transformer", outputs={}), "packages.transformer.outputs.velocity: the shape is not that"),
    (update("packages", "decoder", outputs={}), "packages.decoder.outputs.image: the shape does not match"),
    (update("packages", "decoder", file="../x"), "packages.decoder.file: ../x is outside the bundle"),
    (update("packages", "decoder", file="/x"), "packages.decoder.file: /x is outside the bundle"),
    (lambda content: content["packages"].pop("transformer"), "packages: has no entry for transformer"),
    (lambda content: content["packages"].pop("text_projection"), "packages: has no entry for text_projection"),
    (lambda content: content["packages"].pop("text_encoder_0"), "packages: has no entry for text_encoder_0"),
    (lambda content: content["packages"].pop("decoder"), "decoder: the bundle has none"),
    (update("sampling", steps=0), "sampling.steps: 0 is out of range"),
    (update("sampling", steps=-3), "sampling.steps: -3 is out of range"),
    (update("sampling", steps=10**12), "sampling.steps: 1000000000000 is out of range"),
    (update("sampling", times=[]), "sampling.times: the 0 times do not match 24 steps"),
    (lambda content: content["sampling"]["times"].reverse(), "sampling.times: the 25 times do not match 24 steps"),
    (lambda content: content["sampling"]["times"].pop(), "sampling.times: the 24 times do not match 24 steps"),
    (update("sampling", time_shift=0), "sampling.time_shift: must be a positive number"),
    (update("sampling", guidance=None), "manifest.json: sampling.guidance: "),
    (update("sampling", sampler="dpm"), "manifest.json: sampling.sampler: "),
    (update("text", encoders=[]), "text.encoders: has no entry"),
    (update("text", "encoders", 0, tokens=-1), "text.encoders.0: the size [-1, "),
    (update("text", "encoders", 0, tokens=2**62), "text.encoders.0: the size [4611686018427387904, "),
    (update("text", "encoders", 0, tokenizer=None), "text.encoders.0.tokenizer: is missing"),
    (update("text", "encoders", 0, package=None), "text.encoders.0: the encoder is not in the bundle"),
    (tokenizer(kind="x"), "text.encoders.0.tokenizer.kind: the kind x is unknown"),
    (tokenizer(kind="hashed_words", width=0), "text.encoders.0.tokenizer.width: the size [5, 0] is not positive"),
    (tokenizer(kind="hashed_words"), "text.encoders.0.tokenizer.width: is missing"),
    (tokenizer(kind="word_pieces", file="x.json", pieces=-1), "text.encoders.0.tokenizer.pieces: the size [5, -1] is"),
    (tokenizer(kind="word_pieces", file="x.json"), "text.encoders.0.tokenizer.pieces: is missing"),
    (tokenizer(kind="clip", file="x.json", pad=2**40), NOT_JSON),
    (tokenizer(kind="clip", file="x.json", pad=-1), "text.encoders.0.tokenizer.pad: -1 is negative"),
    (tokenizer(kind="clip", file="../x.json", pad=0), "text.encoders.0.tokenizer.file: ../x.json is outside"),
    (tokenizer(kind="clip", file="x.json", pad=0), "x.json: cannot be read ("),
    (
        lambda content: [
            update("text", "encoders", 0, tokens=1)(content),
            tokenizer(kind="clip", file="x", pad=0)(content),
        ],
        "text.encoders.0.tokens: 1 leaves no room for start and end",
    ),
]
"""Changes of a manifest, and a part of the error that each causes."""


@pytest.mark.slow  # compiles the Swift package
def test_damaged_manifests_are_refused(check: Path, manifest: Manifest, tmp_path: Path) -> None:
    folders = []
    for i, (change, _) in enumerate(DAMAGES):
        content = copy.deepcopy(manifest)
        change(content)
        folders.append(write(content, tmp_path / str(i)).folder)
    texts = ["", "[]", "{", "[" * 10**5, json.dumps(manifest).replace('"guidance": ', '"guidance": 1e400, "x": ')]
    for i, text in enumerate(texts):
        (tmp_path / f"text_{i}").mkdir()
        (tmp_path / f"text_{i}" / "manifest.json").write_text(text)
        folders.append(tmp_path / f"text_{i}")
    folders.append(tmp_path / "missing")
    results = swift(check, tmp_path, [{"bundle": str(folder), "prompt": "a"} for folder in folders])
    messages = [message for _, message in DAMAGES]
    messages += [NOT_JSON, "manifest.json: Expected to decode Dictionary", NOT_JSON, NOT_JSON, NOT_JSON]
    messages.append("manifest.json: cannot be read (")
    for result, message in zip(results, messages, strict=True):
        assert message in result["error"]
        assert "\n" not in result["error"]


def damaged(change: Callable[[Any], Any]) -> str:
    """Return the file of a CLIP tokenizer after a change."""
    (text,) = clip_tokenizer().files.values()
    content = json.loads(text)
    change(content)
    return json.dumps(content, ensure_ascii=False)


@pytest.mark.slow  # compiles the Swift package
def test_damaged_tokenizers_are_refused(check: Path, manifest: Manifest, tmp_path: Path) -> None:
    tokenizer(kind="clip", file="tokenizer.json", pad=0)(manifest)
    contents = {
        "": f"tokenizer.json: {NOT_JSON}",
        "[]": "tokenizer.json: Expected to decode Dictionary",
        json.dumps(json.loads(damaged(lambda content: None))): "model.vocab: contains escapes of characters",
        damaged(lambda content: content.pop("model")): "tokenizer.json: model: is missing",
        damaged(lambda content: content["model"].pop("vocab")): "tokenizer.json: model.vocab: is missing",
        damaged(lambda content: content["model"]["vocab"].update(a=2**40)): f"tokenizer.json: {NOT_JSON}",
        damaged(lambda content: content["model"].update(merges=[["a"]])): "model.merges.0: is not in the vocabulary",
        damaged(lambda content: content["model"].update(merges=["猫 a"])): "model.merges.0: is not in the vocabulary",
        damaged(lambda content: content["added_tokens"][0].update(lstrip=True)): "added_tokens: token ",
        damaged(lambda content: content["model"].update(vocab={"a": 0}, merges=[])): "has no start and end tokens",
    }
    for i, text in enumerate(contents):
        write(manifest, tmp_path / str(i))
        (tmp_path / str(i) / "tokenizer.json").write_text(text)
    results = swift(check, tmp_path, [{"bundle": str(tmp_path / str(i)), "prompt": "a"} for i in range(len(contents))])
    for result, message in zip(results, contents.values(), strict=True):
        assert message in result["error"]
        assert "\n" not in result["error"]


@pytest.mark.slow  # compiles the Swift package
def test_invalid_arguments_are_refused(check: Path, manifest: Manifest, tmp_path: Path) -> None:
    write(manifest, tmp_path / "any")
    manifest["sampling"]["fixed_steps"] = True
    write(manifest, tmp_path / "fixed")
    jobs: list[Job] = [
        {"bundle": str(tmp_path / "any"), "steps": 0},
        {"bundle": str(tmp_path / "any"), "steps": 10_001},
        {"bundle": str(tmp_path / "any"), "loraScale": 0.5},
        {"bundle": str(tmp_path / "fixed"), "steps": 3},
    ]
    errors = [result["error"] for result in swift(check, tmp_path, jobs)]
    assert errors[0] == "steps 0: must be from 1 to 10000"
    assert errors[1] == "steps 10001: must be from 1 to 10000"
    assert errors[2].startswith("loraScale: the bundle has no separate LoRA")
    assert errors[3].startswith("steps 3: the network was distilled to 24 steps")
