"""Tests that the Swift package has the same results as the Python reference, from the noise to the final latents."""

import json
import math
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor, nn

from pocketdit.diffusion.portable_noise import portable_noise
from pocketdit.encoders.portable import PortableText
from pocketdit.encoders.word_vectors import WordVectorEncoder
from pocketdit.export.app.bundle import Bundle
from pocketdit.export.app.draw import draw_latents
from pocketdit.export.app.tokenizers import tokenize
from tests.conftest import ROOT

SOURCES = ROOT / "platform" / "swift" / "Sources"
SEED, PROMPT = 2**40 + 7, "A red circle, left of 2 blue SQUARES: straße naïve 猫\u0301 ½ x_y"


@pytest.fixture(scope="module")
def check(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled program ``pocketdit-check``."""
    compiler = shutil.which("swiftc")
    if compiler is None:
        pytest.skip("there is no Swift compiler (Debian 13: apt install swiftlang)")
    folder = tmp_path_factory.mktemp("swift")
    library = sorted(map(str, (SOURCES / "PocketDiTBundle").glob("*.swift")))
    options = ["-emit-module", "-parse-as-library", "-module-name", "PocketDiTBundle", "-emit-library", "-static"]
    subprocess.run([compiler, *options, "-o", "libPocketDiTBundle.a", *library], cwd=folder, check=True)
    main = str(SOURCES / "pocketdit-check" / "main.swift")
    subprocess.run([compiler, "-I", ".", "-L", ".", "-lPocketDiTBundle", "-o", "check", main], cwd=folder, check=True)
    return folder / "check"


def formula(manifest: Mapping[str, Any], package: str, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the outputs of a stand-in for an exported package, with the same formula as ``pocketdit-check``."""
    values = [value.reshape(-1).double() for value in inputs.values()]
    total = sum(float((v * (torch.arange(len(v)) % 7 + 1)).sum()) for v in values) / 1e4
    return {
        name: torch.tensor([math.sin(total + i) for i in range(math.prod(entry["shape"]))]).reshape(entry["shape"])
        for name, entry in manifest["packages"][package]["outputs"].items()
    }


def clip_tokenizer() -> PortableText:
    """Return CLIP's tokenizer with a small vocabulary that contains all bytes. The graph is a placeholder."""
    from transformers import CLIPTokenizer

    symbols = sorted(ByteLevel.alphabet())
    merges = [("r", "e"), ("re", "d</w>"), ("c", "i"), ("l", "e</w>")]
    tokens = [*symbols, *(f"{s}</w>" for s in symbols), *map("".join, merges), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    tokenizer: Any = CLIPTokenizer(vocab=vocabulary, merges=merges)
    settings = {"kind": "clip", "file": "clip.json", "pad": tokenizer.pad_token_id}
    return PortableText(settings, nn.Identity(), {}, {"clip.json": tokenizer.backend_tokenizer.to_str().encode()})


def add_encoder(manifest: dict[str, Any], folder: Path, text: PortableText, tokens: int) -> None:
    """Add a text encoder to the manifest, and write the files of its tokenizer."""
    package = f"text_encoder_{len(manifest['text']['encoders'])}"
    for name, content in text.files.items():
        (folder / name).write_bytes(content)
    manifest["text"]["encoders"].append(
        {"tokens": tokens, "width": 4, "package": package, "tokenizer": text.tokenizer, "class_path": "x"}
    )
    outputs = {"embeddings": {"shape": [1, tokens, 4], "dtype": "float32"}}
    manifest["packages"][package] = {"file": "x", "inputs": {}, "outputs": outputs}


@pytest.mark.slow  # compiles the Swift package
@pytest.mark.parametrize(("sampler", "guidance", "batch"), [("euler", 1, 1), ("heun", 3, 2), ("dpmpp_2m", 2, 1)])
def test_swift_equals_python(
    check: Path, bundle: Path, tmp_path: Path, sampler: str, guidance: float, batch: int
) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["sampling"].update(sampler=sampler, guidance=guidance)
    for package in ("text_projection", "transformer"):
        for tensors in ("inputs", "outputs"):
            for entry in manifest["packages"][package][tensors].values():
                entry["shape"][0] = batch
    add_encoder(manifest, tmp_path, WordVectorEncoder(max_tokens=12).portable(), 12)
    add_encoder(manifest, tmp_path, clip_tokenizer(), 20)
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    shown = subprocess.run([check, tmp_path, str(SEED), PROMPT], capture_output=True, check=True, text=True).stdout
    result = json.loads(shown)

    latents = tuple(manifest["latents"][name] for name in ("channels", "height", "width"))
    noise = portable_noise(SEED, latents).reshape(-1).view(np.uint32)
    assert [int(bits, 16) for bits in result["noise"]] == noise.tolist()
    for entry, actual in zip(manifest["text"]["encoders"], result["tokens"], strict=True):
        expected = tokenize(PROMPT, entry, tmp_path)
        assert actual.keys() == expected.keys()
        for name, values in expected.items():
            np.testing.assert_allclose(actual[name], values.reshape(-1).numpy(), atol=1e-6, err_msg=name)

    def run(package: str, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return formula(manifest, package, inputs)

    expected_latents = draw_latents(Bundle(tmp_path, manifest), run, PROMPT, SEED, manifest["sampling"]["times"])
    np.testing.assert_allclose(result["latents"], expected_latents.reshape(-1).numpy(), atol=1e-4)
