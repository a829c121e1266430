"""Jobs for ``pocketdit-check``, which executes the Swift package, and bundles for them."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers.pre_tokenizers import ByteLevel
from torch import nn

from pocketdit.encoders.portable import PortableText
from pocketdit.export.app.bundle import Bundle

Manifest = dict[str, Any]
Job = dict[str, Any]


def swift(check: Path, folder: Path, jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """Execute jobs with the Swift package, and return their results."""
    (folder / "jobs.json").write_text(json.dumps(jobs))
    shown = subprocess.run([check, folder / "jobs.json"], capture_output=True, check=True, text=True).stdout
    results: list[dict[str, Any]] = json.loads(shown)
    assert len(results) == len(jobs)
    return results


def clip_tokenizer(normalized: bool = False) -> PortableText:
    """Return CLIP's tokenizer with a small vocabulary that contains all bytes. The graph is a placeholder.

    Args:
        normalized: Whether special tokens are found in the normalized prompt. Files of either kind exist.
    """
    from transformers import CLIPTokenizer

    symbols = sorted(ByteLevel.alphabet())
    merges = [("r", "e"), ("re", "d</w>"), ("c", "i"), ("l", "e</w>"), ("'", "s</w>"), ("Î", "Ł"), ("a", "a")]
    tokens = [*symbols, *(f"{s}</w>" for s in symbols), *map("".join, merges), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    tokenizer: Any = CLIPTokenizer(vocab=vocabulary, merges=merges)
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    for token in content["added_tokens"]:
        token["normalized"] = normalized
    name = f"clip_{normalized}.json"
    settings = {"kind": "clip", "file": name, "pad": tokenizer.pad_token_id}
    return PortableText(settings, nn.Identity(), {}, {name: json.dumps(content, ensure_ascii=False).encode()})


def add_encoder(manifest: Manifest, folder: Path, text: PortableText, tokens: int) -> None:
    """Add a text encoder to the manifest, and write the files of its tokenizer."""
    package = f"text_encoder_{len(manifest['text']['encoders'])}"
    for name, content in text.files.items():
        (folder / name).write_bytes(content)
    manifest["text"]["encoders"].append(
        {"tokens": tokens, "width": 4, "package": package, "tokenizer": text.tokenizer, "class_path": "x"}
    )
    outputs = {"embeddings": {"shape": [1, tokens, 4], "dtype": "float32"}}
    manifest["packages"][package] = {"file": "x", "inputs": {}, "outputs": outputs}


def write(manifest: Manifest, folder: Path) -> Bundle:
    """Write a manifest to a folder. Return the folder as a bundle without the checks of ``open_bundle``."""
    folder.mkdir(exist_ok=True)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return Bundle(folder, manifest)
