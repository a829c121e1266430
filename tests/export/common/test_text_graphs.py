"""Tests that the portable form of a text encoder (tokenizer and graph) produces the same embeddings as the encoder."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pocketdit.encoders.hashed_text import PhraseEncoder, WordEncoder
from pocketdit.encoders.portable import PortableEncoder
from pocketdit.encoders.pretrained_text import ClipTextEncoder, Gemma3TextEncoder
from pocketdit.encoders.word_vectors import WordVectorEncoder
from pocketdit.export.app.tokenizers import tokenize
from pocketdit.export.common.comparison import compare
from pocketdit.export.common.text_graphs import EMBEDDINGS, ExportedText
from tests.encoders.test_pretrained_text import save_clip

PROMPTS = ["a red circle left of 2 blue squares, seen from above at night", "Red", " ", ""]
KINDS = ("words", "phrases", "word vectors", "clip")


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One text encoder of each kind. Each encoder truncates the first prompt."""
    folder = save_clip(tmp_path_factory.mktemp("clip"))
    return {
        "words": WordEncoder(8, 6),
        "phrases": PhraseEncoder(10, 6),
        "word vectors": WordVectorEncoder(context=1, max_tokens=6),
        "clip": ClipTextEncoder(str(folder), max_tokens=10),  # this checkpoint has ten positions
    }


def exported(encoder: Any, folder: Path) -> tuple[ExportedText, dict[str, Any]]:
    """Write the tokenizer's files to a folder, and return the exported form and its entry in the manifest."""
    text = ExportedText("text_encoder_0", encoder, encoder.portable())
    text.write_files(folder)
    return text, {"tokenizer": text.tokenizer_entry(), "tokens": encoder.max_tokens, "width": encoder.width}


def expected(encoder: Any, prompt: str) -> Tensor:
    """Return the encoder's embeddings of a prompt, padded with zeros."""
    embeddings: Tensor = encoder.encode([prompt]).embeddings
    return torch.nn.functional.pad(embeddings, (0, 0, 0, encoder.max_tokens - embeddings.shape[1]))


@pytest.mark.parametrize("kind", KINDS)
def test_portable_form_is_the_encoder(encoders: dict[str, Any], kind: str, tmp_path: Path) -> None:
    encoder = encoders[kind]
    text, entry = exported(encoder, tmp_path)
    for prompt in PROMPTS:
        inputs = tokenize(prompt, entry, tmp_path)
        assert list(inputs) == list(text.portable.inputs)
        assert all(inputs[name].shape == example.shape for name, example in text.portable.inputs.items())
        torch.testing.assert_close(text.portable.module(*inputs.values()), expected(encoder, prompt), atol=1e-5, rtol=0)
        visible = encoder.encode([prompt]).mask.sum()
        assert inputs["mask"].sum() == visible


def test_large_encoders_have_no_portable_form() -> None:
    assert not issubclass(Gemma3TextEncoder, PortableEncoder)


@pytest.mark.slow  # converts the graph of every kind of encoder
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("target", ["coreml", "coreai"])
def test_converted_graphs_are_the_encoders(encoders: dict[str, Any], kind: str, target: str, tmp_path: Path) -> None:
    encoder = encoders[kind]
    text, entry = exported(encoder, tmp_path)
    inputs = tokenize(PROMPTS[0], entry, tmp_path)
    assert compare(kind, converted(text, target, tmp_path, inputs), expected(encoder, PROMPTS[0])).snr > 50


def converted(text: ExportedText, target: str, folder: Path, inputs: dict[str, Tensor]) -> Tensor:
    """Convert a text encoder to float16, and return its output for the inputs."""
    if target == "coreml":
        from pocketdit.export.coreml import interpreter
        from pocketdit.export.coreml.convert import convert
        from pocketdit.export.coreml.package import Package

        convert(text.graph(), folder / "t.mlpackage", "float16", "iOS17")
        return interpreter.run(Package(folder / "t.mlpackage"), inputs)[EMBEDDINGS]
    from pocketdit.export.coreai.convert import convert as convert_coreai
    from pocketdit.export.coreai.runtime import CoreAIModel

    convert_coreai(text.graph(), folder / "t.aimodel", "float16")
    with CoreAIModel(folder / "t.aimodel") as model:
        return model(inputs)[EMBEDDINGS]
